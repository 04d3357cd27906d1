# What no plan may do. Each of these damages a good plan in one way.
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

break drop snapshot
----
s4: it migrates before there is a snapshot

break swap snapshot migrate
----
s3: it migrates before there is a snapshot
s4: the snapshot follows the migration

break drop health
----
s7: it switches to green before every instance is healthy

break swap health start
----
s7: it switches to green before every instance is healthy

break swap switch health
----
s6: it switches to green before every instance is healthy

break merge image preflight
----
s1: its number does not follow
s1: app-1 has two steps in one wave

break forget-undo start
----
s5: its undo leaves green running

break forget-undo switch
----
s7: its undo does not give the traffic back

break forget-undo workers
----
s8: its undo leaves the workers where they are

break touch-live
----
s5: it touches green, which is live
s7: its undo does not give the traffic back

break drop switch
----
s8: it comes before the switch
s9: it comes before the switch
s10: it comes before the switch
it ends with traffic elsewhere than in green

break swap bake drain
----
s10: a step that decides follows housekeeping
