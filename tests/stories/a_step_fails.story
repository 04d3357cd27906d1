# A release that never becomes healthy is taken back, newest first. What only looked is not undone;
# a migration stays, because the release before runs on with it.
host app-1
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: schema 0 to 1: create_notes
s5 wave 5 app-1 start: web of 1b0e989 in blue; the slot is empty
s6 wave 6 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s7 wave 7 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s8 wave 8 app-1 switch: traffic goes from no slot to blue, proved through nginx
s9 wave 9 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s10 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:1 is live in blue

migration 2 add_author
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: schema 1 to 2: add_author
s5 wave 5 app-1 start: web of 4d54a7b in green; the slot is empty
s6 wave 6 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s7 wave 7 app-1 switch: traffic goes from blue to green, proved through nginx
s8 wave 8 app-1 bake: nothing: green is watched under traffic for 20.0 s
s9 wave 9 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s10 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

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
