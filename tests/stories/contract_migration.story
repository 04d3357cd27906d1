# A migration that takes something away closes the way back, and the plan says so before it runs.
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

migration 2 drop_title contracts
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: schema 1 to 2: drop_title
s5 wave 5 app-1 start: web of 4d54a7b in green; the slot is empty
s6 wave 6 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s7 wave 7 app-1 switch: traffic goes from blue to green, proved through nginx
s8 wave 8 app-1 bake: nothing: green is watched under traffic for 20.0 s
s9 wave 9 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s10 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: migration 2 drop_title takes something away: releases from before it cannot serve after it, and a rollback past it will be refused

finish
----
succeeded: notes:2 is live in green

rollback
----
refused: notes:1 cannot run on schema 2
  why: migration 2 drop_title took something away that it needs
  next: fix forward, or go to a release from 2 on: lockstep history production
