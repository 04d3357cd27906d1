# An undo that fails is tried again, three times, with a pause. Then the deployment is stuck: it stays
# open, so that nobody deploys over it, until an operator says that it is to be tried again.
host app-1
spec database none
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
wait 10 min 5 s

done s2
----
append done s2
append begun s3
wait 2 min 15 s

fail s3 no space left
----
append failed s3: no space left
append turned: StepFailed { step: StepId(3) }
append undo begun s3
wait 2 min 15 s

undo-failed s3 docker does not answer
----
append undo failed s3: docker does not answer
wait 2.0 s

after 2s
----
append undo begun s3
wait 2 min 15 s

undo-failed s3 docker does not answer
----
append undo failed s3: docker does not answer
wait 2.0 s

after 2s
----
append undo begun s3
wait 2 min 15 s

undo-failed s3 docker does not answer
----
append undo failed s3: docker does not answer
append stuck at s3: docker does not answer

# A successor finds it stuck as well.
crash
----
nothing is open

decide

resolve anna --retry
----
append resumed by anna
append undo begun s3
wait 2 min 15 s

undone s3
----
append undo done s3
append ended: rolled back
