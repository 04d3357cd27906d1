# What no plan may do. Each of these damages a good plan in one way.
host app-1
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

break drop snapshot
----
s4: migrates before a snapshot was taken

break swap snapshot migrate
----
s3: migrates before a snapshot was taken
s4: takes the snapshot after the migration

break drop health
----
s7: switches to green before every instance is healthy

break swap health start
----
s7: switches to green before every instance is healthy

break swap switch health
----
s6: switches to green before every instance is healthy

break merge image preflight
----
s1: its number is not higher than that of the step before
s1: app-1 has two steps in one wave

break forget-undo start
----
s5: its undo does not stop green

break forget-undo switch
----
s7: its undo does not switch the traffic back

break forget-undo workers
----
s8: its undo does not move the workers back

break touch-live
----
s5: starts or stops green, which is live
s7: its undo does not switch the traffic back

break drop switch
----
s8: comes before the switch
s9: comes before the switch
s10: comes before the switch
the plan does not end with the traffic in green

break swap bake drain
----
s10: comes after housekeeping, although its failure reverts the deployment
