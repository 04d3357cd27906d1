# Three app hosts behind one load balancer: the slot is started on all at once, because it carries no traffic, and one
# switch is for all.
host app-1
host app-2
host app-3
host edge-1
spec worker
spec hosts app-1,app-2,app-3 edge-1
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s7 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s8 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: schema 0 to 1: create_notes
s10 wave 5 app-1 start: web of 1b0e989 in blue; the slot is empty
s11 wave 5 app-2 start: web of 1b0e989 in blue; the slot is empty
s12 wave 5 app-3 start: web of 1b0e989 in blue; the slot is empty
s13 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s14 wave 7 edge-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s15 wave 8 edge-1 switch: traffic goes from no slot to blue, proved through nginx
s16 wave 9 app-1 workers: the old workers end, then those of blue run
s17 wave 9 app-2 workers: the old workers end, then those of blue run
s18 wave 9 app-3 workers: the old workers end, then those of blue run
s19 wave 10 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s20 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 11 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s22 wave 11 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:1 is live in blue

migration 2 add_author
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s6 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s7 wave 2 app-3 image: notes:2 (4d54a7b) is on the host
s8 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: schema 1 to 2: add_author
s10 wave 5 app-1 start: web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s14 wave 7 edge-1 switch: traffic goes from blue to green, proved through nginx
s15 wave 8 app-1 workers: the old workers end, then those of green run
s16 wave 8 app-2 workers: the old workers end, then those of green run
s17 wave 8 app-3 workers: the old workers end, then those of green run
s18 wave 9 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 11 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s22 wave 11 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show undo
----
s1 preflight undo: nothing: it only looks
s2 preflight undo: nothing: it only looks
s3 preflight undo: nothing: it only looks
s4 preflight undo: nothing: it only looks
s5 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s6 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s7 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s8 snapshot undo: nothing: a snapshot is kept
s9 migrate undo: nothing: migrations stay: they only add, so the release before runs on with them
s10 start undo: stop: green is stopped and removed
s11 start undo: stop: green is stopped and removed
s12 start undo: stop: green is stopped and removed
s13 health undo: nothing: it only looks
s14 switch undo: switch: traffic goes to blue again
s15 workers undo: workers: the workers of blue run again
s16 workers undo: workers: the workers of blue run again
s17 workers undo: workers: the workers of blue run again
s18 bake undo: nothing: it only looks
s19 drain undo: nothing: the release serves already; this is housekeeping
s20 clean up undo: nothing: the release serves already; this is housekeeping
s21 clean up undo: nothing: the release serves already; this is housekeeping
s22 clean up undo: nothing: the release serves already; this is housekeeping

show endpoints
----
s13 health: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s14 switch: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s14 undo switch: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000
s18 bake: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s19 drain: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000

# A start that fails on one host before the switch costs nothing: the slot is taken back on all of them, and the
# traffic was never touched.
open
decide
----
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
----
append done s1
wait 1 min 5 s

done s2
----
append done s2
wait 1 min 5 s

done s3
----
append done s3
wait 1 min 5 s

done s4
----
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s

done s5
----
append done s5
wait 10 min 5 s

done s6
----
append done s6
wait 10 min 5 s

done s7
----
append done s7
append begun s8
wait 20 min 5 s

done s8
----
append done s8
append begun s9
wait 20 min 5 s

done s9
----
append done s9
append begun s10
append begun s11
append begun s12
wait 2 min 15 s

done s10
----
append done s10
wait 2 min 15 s

done s12
----
append done s12
wait 2 min 15 s

fail s11 no memory
----
append failed s11: no memory
append turned: StepFailed { step: StepId(11) }
append undo begun s10
append undo begun s11
append undo begun s12
wait 2 min 15 s

undone s10
----
append undo done s10
wait 2 min 15 s

undone s12
----
append undo done s12
wait 2 min 15 s

undone s11
----
append undo done s11
append ended: rolled back

# Nor does one that does not become healthy.
deploy notes:2
open
decide
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s6 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s7 wave 2 app-3 image: notes:2 (4d54a7b) is on the host
s8 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: schema 1 to 2: add_author
s10 wave 5 app-1 start: web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s14 wave 7 edge-1 switch: traffic goes from blue to green, proved through nginx
s15 wave 8 app-1 workers: the old workers end, then those of green run
s16 wave 8 app-2 workers: the old workers end, then those of green run
s17 wave 8 app-3 workers: the old workers end, then those of green run
s18 wave 9 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 11 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s22 wave 11 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
----
append done s1
wait 1 min 5 s

done s2
----
append done s2
wait 1 min 5 s

done s3
----
append done s3
wait 1 min 5 s

done s4
----
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s

done s5
----
append done s5
wait 10 min 5 s

done s6
----
append done s6
wait 10 min 5 s

done s7
----
append done s7
append begun s8
wait 20 min 5 s

done s8
----
append done s8
append begun s9
wait 20 min 5 s

done s9
----
append done s9
append begun s10
append begun s11
append begun s12
wait 2 min 15 s

done s10
----
append done s10
wait 2 min 15 s

done s11
----
append done s11
wait 2 min 15 s

done s12
----
append done s12
append begun s13
wait 1 min 15 s

fail s13 10.0.0.2 answers 500
----
append failed s13: 10.0.0.2 answers 500
append turned: StepFailed { step: StepId(13) }
append undo begun s10
append undo begun s11
append undo begun s12
wait 2 min 15 s

undone s10
----
append undo done s10
wait 2 min 15 s

undone s11
----
append undo done s11
wait 2 min 15 s

undone s12
----
append undo done s12
append ended: rolled back

# A rollback is one switch as well.
deploy notes:2
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s6 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s7 wave 2 app-3 image: notes:2 (4d54a7b) is on the host
s8 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: schema 1 to 2: add_author
s10 wave 5 app-1 start: web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s14 wave 7 edge-1 switch: traffic goes from blue to green, proved through nginx
s15 wave 8 app-1 workers: the old workers end, then those of green run
s16 wave 8 app-2 workers: the old workers end, then those of green run
s17 wave 8 app-3 workers: the old workers end, then those of green run
s18 wave 9 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 11 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s22 wave 11 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:2 is live in green

rollback
----
s1 wave 1 edge-1 health: nothing: asks /health for 2 good answers in a row
s2 wave 2 edge-1 switch: traffic goes from green to blue, proved through nginx
s3 wave 3 app-1 workers: the workers of blue run again
s4 wave 3 app-2 workers: the workers of blue run again
s5 wave 3 app-3 workers: the workers of blue run again
warning: migrations stay: the schema remains at 2, and notes:1 was built for 1

finish
----
succeeded: notes:1 is live in blue

# One host is cold: the slot is started there, and only there.
slot green stopped on app-2
rollback to 4
----
s1 wave 1 app-1 preflight: nothing: looks at tools, ports and image
s2 wave 1 app-2 preflight: nothing: looks at tools, ports and image
s3 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s4 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s5 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s6 wave 3 app-2 start: 4d54a7b runs in green again
s7 wave 4 edge-1 health: nothing: asks /health for 3 good answers in a row
s8 wave 5 edge-1 switch: traffic goes from blue to green, proved through nginx
s9 wave 6 app-1 workers: the workers of green run again
s10 wave 6 app-2 workers: the workers of green run again
s11 wave 6 app-3 workers: the workers of green run again
warning: notes:2 is not warm any more: it is started first, which takes longer than a switch

finish
----
succeeded: notes:2 is live in green

# No rule lets a host be forgotten, or the traffic go where nobody asked.
deploy notes:3
break forget-target health
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:3 (03a5970) is on the host
s6 wave 2 app-2 image: notes:3 (03a5970) is on the host
s7 wave 2 app-3 image: notes:3 (03a5970) is on the host
s8 wave 3 app-1 start: web of 03a5970 in blue; replaces 1b0e989 there
s9 wave 3 app-2 start: web of 03a5970 in blue; replaces 1b0e989 there
s10 wave 3 app-3 start: web of 03a5970 in blue; replaces 1b0e989 there
s11 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s12 wave 5 edge-1 switch: traffic goes from green to blue, proved through nginx
s13 wave 6 app-1 workers: the old workers end, then those of blue run
s14 wave 6 app-2 workers: the old workers end, then those of blue run
s15 wave 6 app-3 workers: the old workers end, then those of blue run
s16 wave 7 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s17 wave 8 edge-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s18 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 9 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s20 wave 9 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s12: it switches to blue before every instance is healthy

break forget-target switch
----
s12: it leaves out 10.0.0.3:20000, which is an instance of blue
