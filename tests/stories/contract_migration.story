# A migration that takes something away closes the way back, and the plan says so before it runs.
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

migration 2 drop_title contracts
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: migrates the schema from version 1 to 2: drop_title
s5 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s6 wave 6 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s7 wave 7 app-1 switch: switches traffic from blue to green, verified through nginx
s8 wave 8 app-1 bake: watches green under traffic for 20.0 s
s9 wave 9 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: migration 2 drop_title removes something from the schema: earlier releases cannot run after it, and a rollback past it will be refused

finish
----
succeeded: notes:2 is live in green

rollback
----
refused: notes:1 cannot run on schema version 2
  why: migration 2 drop_title removed something that this release needs
  next: lockstep history notes/production    # roll back to a release that has migration 2, or deploy a fix
