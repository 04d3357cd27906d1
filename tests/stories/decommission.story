# An environment is given up: nginx first, then a last snapshot, then what is on its hosts.
host app-1
decommission
----
refused: nothing is live in notes/production
  why: there is nothing to take out of service; only its record is left to remove
  next: lockstep env remove notes/production

spec worker
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: migrates the schema from version 0 to 1: create_notes
s5 wave 5 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s6 wave 6 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s7 wave 7 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s8 wave 8 app-1 switch: switches traffic from no slot to blue, verified through nginx
s9 wave 9 app-1 workers: stops the old workers, then starts those of blue
s10 wave 10 app-1 bake: watches blue under traffic for 20.0 s
s11 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:1 is live in blue

migration 2 add_author
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: migrates the schema from version 1 to 2: add_author
s5 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s6 wave 6 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s7 wave 7 app-1 switch: switches traffic from blue to green, verified through nginx
s8 wave 8 app-1 workers: stops the old workers, then starts those of green
s9 wave 9 app-1 bake: watches green under traffic for 20.0 s
s10 wave 10 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s11 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:2 is live in green

decommission
----
s1 wave 1 app-1 preflight: checks tools, disk and database; changes nothing
s2 wave 2 app-1 remove site: nginx serves notes/production no more (one reload: clients with idle connections to this nginx may have to reconnect)
s3 wave 3 app-1 drain: waits up to 30.0 s for the requests of green to end
s4 wave 4 app-1 workers: stops the workers of green
s5 wave 5 app-1 snapshot: takes and verifies the last snapshot of the database in /var/backups/notes
s6 wave 6 app-1 stop: stops and removes green (housekeeping)
s7 wave 7 app-1 stop: stops and removes blue (housekeeping)
s8 wave 8 app-1 clean up: removes the images that no other environment needs: notes:2, notes:1 (housekeeping)
warning: the database of notes/production stays, and its snapshots in /var/backups/notes

break drop remove site
----
s3: drains green, which has the traffic
s6: starts or stops green, which is live
nginx serves the environment at the end of a plan that gives it up

break drop snapshot
----
s6: starts or stops green, which is live

break swap snapshot stop
----
s5: starts or stops green, which is live
s6: comes after housekeeping, although its failure reverts the deployment

break forget-undo remove site
----
s2: its undo does not restore the site

open
decide
----
append begun s1
wait 1 min 5 s

done s1
----
append done s1
append begun s2
wait 35.0 s

done s2
----
append done s2
append begun s3
wait 50.0 s

done s3
----
append done s3
append begun s4
wait 1 min 15 s

done s4
----
append done s4
append begun s5
wait 20 min 5 s

fail s5 unknown
----
append failed s5: unknown
append turned: StepFailed { step: StepId(5) }
append undo begun s4
wait 1 min 15 s

finish
----
rolled back: the record is as it was

decommission
----
s1 wave 1 app-1 preflight: checks tools, disk and database; changes nothing
s2 wave 2 app-1 remove site: nginx serves notes/production no more (one reload: clients with idle connections to this nginx may have to reconnect)
s3 wave 3 app-1 drain: waits up to 30.0 s for the requests of green to end
s4 wave 4 app-1 workers: stops the workers of green
s5 wave 5 app-1 snapshot: takes and verifies the last snapshot of the database in /var/backups/notes
s6 wave 6 app-1 stop: stops and removes green (housekeeping)
s7 wave 7 app-1 stop: stops and removes blue (housekeeping)
s8 wave 8 app-1 clean up: removes the images that no other environment needs: notes:2, notes:1 (housekeeping)
warning: the database of notes/production stays, and its snapshots in /var/backups/notes

finish
----
succeeded: nothing is live

decommission
----
refused: nothing is live in notes/production
  why: there is nothing to take out of service; only its record is left to remove
  next: lockstep env remove notes/production

deploy notes:3
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s3 wave 3 app-1 start: starts web of 03a5970 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 workers: stops the old workers, then starts those of blue
s8 wave 8 app-1 bake: watches blue under traffic for 20.0 s
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs: notes:2, notes:1 (housekeeping)
