# Rolling back is a switch while the old slot is warm, and says that migrations stay.
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

finish
----
succeeded: notes:2 is live in green

rollback
----
s1 wave 1 app-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 app-1 switch: switches traffic from green to blue, verified through nginx
s3 wave 3 app-1 workers: stops the other workers, then starts those of blue
warning: migrations stay: the schema keeps version 2, and notes:1 was built for version 1

show omitted
----
no start: the slot is warm: its containers run as they were deployed
no nginx site: the site needs no change; the switch changes a file and needs no reload
no migration: a rollback never changes the database: data written since then would be lost

finish
----
succeeded: notes:1 is live in blue

# What is live is the first release; there is none before it, and the way forward has a name.
rollback
----
refused: notes/production has no earlier release to roll back to
  why: notes:1 is the first release that was live
  next: lockstep rollback notes/production --to dep_00000000000000000000000002    # to notes:2, which was live too

rollback to 2
----
s1 wave 1 app-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 app-1 switch: switches traffic from blue to green, verified through nginx
s3 wave 3 app-1 workers: stops the other workers, then starts those of green

finish
----
succeeded: notes:2 is live in green

# The slot is not warm any more: its containers are started first.
slot blue stopped
rollback
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts 1b0e989 in blue again
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 workers: stops the other workers, then starts those of blue
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch
warning: migrations stay: the schema keeps version 2, and notes:1 was built for version 1

# A deployment that never served is no target, nor is one that nobody knows.
rollback to 9
----
refused: dep_00000000000000000000000009 is not in the history of notes/production
  why: it was never deployed there
  next: lockstep history notes/production

rollback to 4
----
refused: notes:2 is already live
  why: dep_00000000000000000000000004 deployed the live release
  next: lockstep history notes/production
