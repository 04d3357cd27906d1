# Rolling back is a switch while the old slot is warm, and says that migrations stay.
host app-1
spec worker
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
s9 wave 9 app-1 workers: the old workers end, then those of blue run
s10 wave 10 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s11 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

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
s8 wave 8 app-1 workers: the old workers end, then those of green run
s9 wave 9 app-1 bake: nothing: green is watched under traffic for 20.0 s
s10 wave 10 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s11 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:2 is live in green

rollback
----
s1 wave 1 app-1 health: nothing: asks /health for 2 good answers in a row
s2 wave 2 app-1 switch: traffic goes from green to blue, proved through nginx
s3 wave 3 app-1 workers: the workers of blue run again
warning: migrations stay: the schema remains at 2, and notes:1 was built for 1

show omitted
----
no start: the slot is warm: its containers run as they were deployed
no nginx site: it is as it should be; the switch is a file, nothing is reloaded
no migration: a rollback never changes the database: what was written since would be lost

finish
----
succeeded: notes:1 is live in blue

# What is live is the first release; there is none before it, and the way forward has a name.
rollback
----
refused: notes/production has no earlier release that was verified good
  why: notes:1 is the first that served
  next: lockstep history production, then lockstep rollback production --to DEP

rollback to 2
----
s1 wave 1 app-1 health: nothing: asks /health for 2 good answers in a row
s2 wave 2 app-1 switch: traffic goes from blue to green, proved through nginx
s3 wave 3 app-1 workers: the workers of green run again

finish
----
succeeded: notes:2 is live in green

# The slot is not warm any more: its containers are started first.
slot blue stopped
rollback
----
s1 wave 1 app-1 preflight: nothing: looks at tools, ports and image
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: 1b0e989 runs in blue again
s4 wave 4 app-1 health: nothing: asks /health for 3 good answers in a row
s5 wave 5 app-1 switch: traffic goes from green to blue, proved through nginx
s6 wave 6 app-1 workers: the workers of blue run again
warning: notes:1 is not warm any more: it is started first, which takes longer than a switch
warning: migrations stay: the schema remains at 2, and notes:1 was built for 1

# A deployment that never served is no target, nor is one that nobody knows.
rollback to 9
----
refused: dep_00000000000000000000000009 is not in the history of notes/production
  why: it was never deployed there
  next: lockstep history production

rollback to 4
----
refused: notes:2 is live already
  why: dep_00000000000000000000000004 deployed what serves
  next: lockstep history production
