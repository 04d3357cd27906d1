# With a quorum, an app host that falls ill before nginx is told is passed by, and the others go on.
host app-1
host app-2
host app-3
host edge-1
spec hosts app-1,app-2,app-3 edge-1
spec bake 0s
spec drain 0s
spec worker
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s7 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s8 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s9 wave 3 app-2 start: web of 1b0e989 in blue; the slot is empty
s10 wave 3 app-3 start: web of 1b0e989 in blue; the slot is empty
s11 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s12 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s13 wave 6 edge-1 switch: traffic goes from no slot to blue, proved through nginx
s14 wave 7 app-1 workers: the old workers end, then those of blue run
s15 wave 7 app-2 workers: the old workers end, then those of blue run
s16 wave 7 app-3 workers: the old workers end, then those of blue run
s17 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 8 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 8 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:1 is live in blue

# The site is in the plan though nothing of it changes: it may have to lose a host.
spec quorum 2
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s6 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s7 wave 2 app-3 image: notes:2 (4d54a7b) is on the host
s8 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s9 wave 3 app-2 start: web of 4d54a7b in green; the slot is empty
s10 wave 3 app-3 start: web of 4d54a7b in green; the slot is empty
s11 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without one host that is not healthy then
s12 wave 5 edge-1 site: nothing, unless a host is passed by: then one reload takes it out
s13 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s14 wave 7 app-1 workers: the old workers end, then those of green run
s15 wave 7 app-2 workers: the old workers end, then those of green run
s16 wave 7 app-3 workers: the old workers end, then those of green run
s17 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 8 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 8 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show endpoints
----
s11 health: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s12 site: blue 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s13 switch: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s13 undo switch: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000

# Its start fails: what it has begun is owed, and everything from here on is without it.
open
decide
----
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
append begun s9
append begun s10
wait 2 min 15 s

fail s9 no space left on device
----
append failed s9: no space left on device
append passed by host_00000000000000000000000002, because of s9
append owed s9: app-2 was passed by
app-2 owes: green is stopped and removed
wait 2 min 15 s

# The debt is recorded before anything else begins; a successor knows as much.
crash
----
ask about s8 do
ask about s10 do

decide
----
wait 2 min 15 s

# A second one would be too many.
done s8
done s10
----
append done s8
wait 2 min 15 s
append done s10
append begun s11
wait 1 min 15 s

ill s11 app-3
----
append done s11
append turned: StepFailed { step: StepId(11) }
append undo begun s8
append undo begun s10
wait 2 min 15 s

undone s8
undone s10
decide
----
append undo done s8
wait 2 min 15 s
append undo done s10
append ended: rolled back

# Not healthy at the end of the check: passed by as well, after which the check need not be repeated.
deploy notes:3
open
decide
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:3 (03a5970) is on the host
s6 wave 2 app-2 image: notes:3 (03a5970) is on the host
s7 wave 2 app-3 image: notes:3 (03a5970) is on the host
s8 wave 3 app-1 start: web of 03a5970 in green; the slot is empty
s9 wave 3 app-2 start: web of 03a5970 in green; the slot is empty
s10 wave 3 app-3 start: web of 03a5970 in green; the slot is empty
s11 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without one host that is not healthy then
s12 wave 5 edge-1 site: nothing, unless a host is passed by: then one reload takes it out
s13 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s14 wave 7 app-1 workers: the old workers end, then those of green run
s15 wave 7 app-2 workers: the old workers end, then those of green run
s16 wave 7 app-3 workers: the old workers end, then those of green run
s17 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 8 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 8 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
done s8
done s9
done s10
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
append begun s9
append begun s10
wait 2 min 15 s
append done s8
wait 2 min 15 s
append done s9
wait 2 min 15 s
append done s10
append begun s11
wait 1 min 15 s

ill s11 app-2
----
append done s11
append passed by host_00000000000000000000000002, because of s11
append owed s9: app-2 was passed by
app-2 owes: green is stopped and removed
append begun s12
wait 35.0 s

finish
----
succeeded: notes:3 is live in green

# It has a part in the next release again, and nobody has to say so.
deploy notes:4
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:4 (1ef32ac) is on the host
s6 wave 2 app-2 image: notes:4 (1ef32ac) is on the host
s7 wave 2 app-3 image: notes:4 (1ef32ac) is on the host
s8 wave 3 app-1 start: web of 1ef32ac in blue; replaces 1b0e989 there
s9 wave 3 app-2 start: web of 1ef32ac in blue; replaces 1b0e989 there
s10 wave 3 app-3 start: web of 1ef32ac in blue; replaces 1b0e989 there
s11 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without one host that is not healthy then
s12 wave 5 edge-1 site: nothing, unless a host is passed by: then one reload takes it out
s13 wave 6 edge-1 switch: traffic goes from green to blue, proved through nginx
s14 wave 7 app-1 workers: the old workers end, then those of blue run
s15 wave 7 app-2 workers: the old workers end, then those of blue run
s16 wave 7 app-3 workers: the old workers end, then those of blue run
s17 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 8 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 8 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:4 is live in blue

# Who has the database is not passed by.
spec quorum 1
spec parallel 1
deploy notes:5
open
decide
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:5 (0b0c12e) is on the host
s6 wave 2 app-2 image: notes:5 (0b0c12e) is on the host
s7 wave 2 app-3 image: notes:5 (0b0c12e) is on the host
s8 wave 3 app-1 start: web of 0b0c12e in green; replaces 03a5970 there
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s10 wave 5 app-2 start: web of 0b0c12e in green; the slot is empty
s11 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s12 wave 7 app-3 start: web of 0b0c12e in green; replaces 03a5970 there
s13 wave 8 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s14 wave 9 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s15 wave 10 edge-1 switch: traffic goes from blue to green, proved through nginx
s16 wave 11 app-1 workers: the old workers end, then those of green run
s17 wave 11 app-2 workers: the old workers end, then those of green run
s18 wave 11 app-3 workers: the old workers end, then those of green run
s19 wave 12 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s20 wave 12 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 12 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
wait 2 min 15 s

fail s8 no space left on device
----
append failed s8: no space left on device
append turned: StepFailed { step: StepId(8) }
append undo begun s8
wait 2 min 15 s

finish
----
rolled back: the record is as it was

# One host after the other: the checks that come later ask one host less.
deploy notes:5
open
decide
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:5 (0b0c12e) is on the host
s6 wave 2 app-2 image: notes:5 (0b0c12e) is on the host
s7 wave 2 app-3 image: notes:5 (0b0c12e) is on the host
s8 wave 3 app-1 start: web of 0b0c12e in green; replaces 03a5970 there
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s10 wave 5 app-2 start: web of 0b0c12e in green; the slot is empty
s11 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s12 wave 7 app-3 start: web of 0b0c12e in green; replaces 03a5970 there
s13 wave 8 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without 2 hosts that are not healthy then
s14 wave 9 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s15 wave 10 edge-1 switch: traffic goes from blue to green, proved through nginx
s16 wave 11 app-1 workers: the old workers end, then those of green run
s17 wave 11 app-2 workers: the old workers end, then those of green run
s18 wave 11 app-3 workers: the old workers end, then those of green run
s19 wave 12 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s20 wave 12 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s21 wave 12 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
done s8
done s9
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
wait 2 min 15 s
append done s8
append begun s9
wait 1 min 15 s
append done s9
append begun s10
wait 2 min 15 s

fail s10 no space left on device
----
append failed s10: no space left on device
append passed by host_00000000000000000000000002, because of s10
append owed s10: app-2 was passed by
app-2 owes: green is stopped and removed
append begun s11
wait 1 min 15 s

done s11
done s12
----
append done s11
append begun s12
wait 2 min 15 s
append done s12
append begun s13
wait 1 min 15 s

ill s13 app-3
----
append done s13
append passed by host_00000000000000000000000003, because of s13
append owed s12: app-3 was passed by
app-3 owes: green is stopped and removed
append begun s14
wait 35.0 s

finish
----
succeeded: notes:5 is live in green

# Who is passed by can be drained: then it is not brought back.
drain app-3
finish
----
s1 wave 1 edge-1 site: nginx sends no request to app-3 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 app-3 stop: green is stopped and removed (housekeeping)
succeeded: notes:5 is live in green

deploy notes:6
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 2 app-1 image: notes:6 (bb86f74) is on the host
s5 wave 2 app-2 image: notes:6 (bb86f74) is on the host
s6 wave 3 app-1 start: web of bb86f74 in blue; replaces 1ef32ac there
s7 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without one host that is not healthy then
s8 wave 5 app-2 start: web of bb86f74 in blue; replaces 1ef32ac there
s9 wave 6 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min; goes on without one host that is not healthy then
s10 wave 7 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s11 wave 8 edge-1 switch: traffic goes from green to blue, proved through nginx
s12 wave 9 app-1 workers: the old workers end, then those of blue run
s13 wave 9 app-2 workers: the old workers end, then those of blue run
s14 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s15 wave 10 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)

# What it has begun is still there at the next release, which passes it by from the beginning.
owes app-2
deploy notes:6
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 2 app-1 image: notes:6 (bb86f74) is on the host
s4 wave 3 app-1 start: web of bb86f74 in blue; replaces 1ef32ac there
s5 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 switch: traffic goes from green to blue, proved through nginx
s7 wave 6 app-1 workers: the old workers end, then those of blue run
s8 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: app-2 is passed by, as it has something to take back first: what runs there goes on, and gets no requests after the switch

show omitted
----
no app-3: it was drained; lockstep host add production app-3 brings it back
no app-2: it has something to take back first; lockstep host add production app-2 brings it back
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no migration: the image has none in /migrations
no snapshot: nothing migrates
no nginx site: it is as it should be; the switch is a file, nothing is reloaded
no bake: deploy.bake is 0s
no drain: deploy.drain is 0s

spec quorum 3
deploy notes:6
----
refused: 1 app hosts of notes/production can be deployed to, and deploy.quorum is 3
  why: app-2: it has something to take back first
  next: lockstep host list, and on those hosts: systemctl status lockstep-agent
