# A release that never becomes healthy is taken back, newest first. What only looked is not undone;
# a migration stays, because the release before runs on with it.
host app-1
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
s9 wave 9 app-1 bake: watches blue under traffic for 20.0 s
s10 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

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
s8 wave 8 app-1 bake: watches green under traffic for 20.0 s
s9 wave 9 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

open
decide
----
append begun s1
wait 1 min 5 s

done s1
----
append done s1
append begun s2
wait 10 min 5 s

done s2
----
append done s2
append begun s3
wait 20 min 5 s

done s3
----
append done s3
append begun s4
wait 20 min 5 s

done s4
----
append done s4
append begun s5
wait 2 min 15 s

done s5
----
append done s5
append begun s6
wait 1 min 15 s

fail s6 web answers 500
----
append failed s6: web answers 500
append turned: StepFailed { step: StepId(6) }
append undo begun s5
wait 2 min 15 s

undone s5
----
append undo done s5
append ended: rolled back
