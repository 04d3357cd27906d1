# The second deployment goes to the other slot. The site is there already, so that nothing is reloaded.
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

show omitted
----
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no nginx site: it is as it should be; the switch is a file, nothing is reloaded

show undo
----
s1 preflight undo: nothing: it only looks
s2 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s3 snapshot undo: nothing: a snapshot is kept
s4 migrate undo: nothing: migrations stay: they only add, so the release before runs on with them
s5 start undo: stop: green is stopped and removed
s6 health undo: nothing: it only looks
s7 switch undo: switch: traffic goes to blue again
s8 workers undo: workers: the workers of blue run again
s9 bake undo: nothing: it only looks
s10 drain undo: nothing: the release serves already; this is housekeeping
s11 clean up undo: nothing: the release serves already; this is housekeeping

finish
----
succeeded: notes:2 is live in green

# Without a migration there is no snapshot either.
deploy notes:3
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:3 (03a5970) is on the host
s3 wave 3 app-1 start: web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from green to blue, proved through nginx
s6 wave 6 app-1 workers: the old workers end, then those of blue run
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no migration: schema 2 is already there
no snapshot: nothing migrates
no nginx site: it is as it should be; the switch is a file, nothing is reloaded
