# One host at a time: each check asks all that were started so far, and what comes later has not begun when one fails.
host app-1
host app-2
host app-3
host edge-1
spec database none
spec hosts app-1,app-2,app-3 edge-1
spec parallel 1
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s8 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 app-2 start: starts web of 1b0e989 in blue; the slot is empty
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s12 wave 7 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 9 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s15 wave 10 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s16 wave 11 edge-1 bake: watches blue under traffic for 20.0 s
s17 wave 12 app-1 workers: notifies blue that it is live (housekeeping)
s18 wave 12 app-2 workers: notifies blue that it is live (housekeeping)
s19 wave 12 app-3 workers: notifies blue that it is live (housekeeping)
s20 wave 13 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 13 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 13 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

show endpoints
----
s9 health: 10.0.0.1:20000
s11 health: 10.0.0.1:20000 10.0.0.2:20000
s13 health: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000
s14 site: blue 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s15 switch: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000
s16 bake: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000

finish
----
succeeded: notes:1 is live in blue

deploy notes:2
open
decide
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s7 wave 2 app-3 image: gets notes:2 (4d54a7b) unless the host has it
s8 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 app-2 start: starts web of 4d54a7b in green; the slot is empty
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s12 wave 7 app-3 start: starts web of 4d54a7b in green; the slot is empty
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 9 edge-1 switch: switches traffic from blue to green, verified through nginx
s15 wave 10 edge-1 bake: watches green under traffic for 20.0 s
s16 wave 11 app-1 workers: notifies green that it is live (housekeeping)
s17 wave 11 app-2 workers: notifies green that it is live (housekeeping)
s18 wave 11 app-3 workers: notifies green that it is live (housekeeping)
s19 wave 11 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s20 wave 12 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 12 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 12 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
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
wait 2 min 15 s

done s8
----
append done s8
append begun s9
wait 1 min 15 s

done s9
----
append done s9
append begun s10
wait 2 min 15 s

done s10
----
append done s10
append begun s11
wait 1 min 15 s

fail s11 10.0.0.2 answers 500
----
append failed s11: 10.0.0.2 answers 500
append turned: StepFailed { step: StepId(11) }
append undo begun s10
wait 2 min 15 s

undone s10
----
append undo done s10
append undo begun s8
wait 2 min 15 s

undone s8
----
append undo done s8
append ended: rolled back

# Two at a time, with one left over.
spec parallel 2
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s7 wave 2 app-3 image: gets notes:2 (4d54a7b) unless the host has it
s8 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s9 wave 3 app-2 start: starts web of 4d54a7b in green; the slot is empty
s10 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s11 wave 5 app-3 start: starts web of 4d54a7b in green; the slot is empty
s12 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s13 wave 7 edge-1 switch: switches traffic from blue to green, verified through nginx
s14 wave 8 edge-1 bake: watches green under traffic for 20.0 s
s15 wave 9 app-1 workers: notifies green that it is live (housekeeping)
s16 wave 9 app-2 workers: notifies green that it is live (housekeeping)
s17 wave 9 app-3 workers: notifies green that it is live (housekeeping)
s18 wave 9 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s19 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s20 wave 10 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 10 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:2 is live in green

# A slot that is cold everywhere comes back in the same waves.
slot blue stopped
rollback
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 1 app-2 preflight: checks tools, ports and image; changes nothing
s3 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s4 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s8 wave 3 app-1 start: starts 1b0e989 in blue again
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health
s10 wave 5 app-2 start: starts 1b0e989 in blue again
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health
s12 wave 7 app-3 start: starts 1b0e989 in blue again
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health
s14 wave 9 edge-1 switch: switches traffic from green to blue, verified through nginx
s15 wave 10 app-1 workers: notifies blue that it is live (housekeeping)
s16 wave 10 app-2 workers: notifies blue that it is live (housekeeping)
s17 wave 10 app-3 workers: notifies blue that it is live (housekeeping)
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch

# Without its last check nobody has seen the last host healthy.
spec parallel 1
deploy notes:3
break drop-last health
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s6 wave 2 app-2 image: gets notes:3 (03a5970) unless the host has it
s7 wave 2 app-3 image: gets notes:3 (03a5970) unless the host has it
s8 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 app-2 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s12 wave 7 app-3 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 9 edge-1 switch: switches traffic from green to blue, verified through nginx
s15 wave 10 edge-1 bake: watches blue under traffic for 20.0 s
s16 wave 11 app-1 workers: notifies blue that it is live (housekeeping)
s17 wave 11 app-2 workers: notifies blue that it is live (housekeeping)
s18 wave 11 app-3 workers: notifies blue that it is live (housekeeping)
s19 wave 11 edge-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s20 wave 12 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 12 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 12 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
s14: switches to blue before every instance is healthy
