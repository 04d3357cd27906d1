# Cancel unwinds, and so does the end of the lock.
host app-1
spec database none
spec lock_timeout 2m
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

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
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:1 is live in blue

deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 bake: watches green under traffic for 20.0 s
s7 wave 7 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

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
