# A step that does not answer in time has perhaps happened. It is undone like one that was done, and its
# host is told to make sure that it has ended, even where there is nothing to take back.
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

# The migration's agent is silent past its limit and the grace for the answer.
after 20m
----
wait 5.0 s

after 5s
----
append unknown s4: migrate on app-1 reported no result within 20 min
append turned: StepFailed { step: StepId(4) }
append undo begun s4
wait 20 min 5 s

undone s4
----
append undo done s4
append ended: rolled back
