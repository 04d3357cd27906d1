# Cancel unwinds, and so does the end of the lock.
host app-1
spec database none
spec lock_timeout 2m
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s6 wave 6 app-1 switch: traffic goes from no slot to blue, proved through nginx
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

open
decide
----
append begun s1
wait 1 min 5 s

done s1
----
append done s1
append begun s2
wait 2 min

done s2
----
append done s2
append begun s3
wait 2 min

cancel anna
----
append turned: Cancelled { by: OperatorName("anna") }
append undo begun s3
wait 2 min 15 s

# The start was perhaps done: it is stopped, whatever it was.
undone s3
----
append undo done s3
append ended: rolled back

# The same deployment again, and this time nobody does anything until the lock's time is up.
open
decide
----
append begun s1
wait 1 min 5 s

done s1
----
append done s1
append begun s2
wait 2 min

done s2
----
append done s2
append begun s3
wait 2 min

after 2m
----
append turned: LockTimeout
append undo begun s3
wait 2 min 15 s

undone s3
----
append undo done s3
append ended: rolled back

# Past the last deciding step nothing is unwound any more: the release serves.
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s6 wave 6 app-1 switch: traffic goes from no slot to blue, proved through nginx
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:1 is live in blue

deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from blue to green, proved through nginx
s6 wave 6 app-1 bake: nothing: green is watched under traffic for 20.0 s
s7 wave 7 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

open
decide
----
append begun s1
wait 1 min 5 s

done s1
----
append done s1
append begun s2
wait 2 min

done s2
----
append done s2
append begun s3
wait 2 min

done s3
----
append done s3
append begun s4
wait 1 min 15 s

done s4
----
append done s4
append begun s5
wait 35.0 s

done s5
----
append done s5
append begun s6
wait 55.0 s

done s6
----
append done s6
append begun s7
wait 50.0 s

cancel anna
----
wait 50.0 s

fail s7 connections are left
----
append failed s7: connections are left
append begun s8
wait 2 min 5 s

done s8
----
append done s8
append ended: succeeded
