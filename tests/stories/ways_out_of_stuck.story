# Every way out of a stuck deployment, and what is refused. First: the undo of the start fails for good.
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

ways
----
--retry: tries this undo up to 3 more times on app-1: stops and removes green; then nothing else is left to undo
--unwind: nothing else is left to undo; this undo stays pending on app-1, and no deployment uses the host before it is done: stops and removes green
--skip s3: nothing else is left to undo; this undo is never done on app-1, and you clean up by hand: stops and removes green

resolve anna --skip s2
----
refused: the undo of s2 has not failed; the deployment is stuck at s3

# The rest is taken back, and this stays owed by its host.
resolve anna --unwind
----
append owed s3 by anna: docker does not answer
app-1 owes: stops and removes green
append ended: rolled back

# An operator may also answer for what is left.
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

resolve anna --skip s3
----
append skipped s3 by anna
append ended: rolled back

# What decides where the traffic goes can be tried again, and nothing else: without its switch the plan breaks
# a rule. The slot that has the traffic goes on running, whatever happens.
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
wait 10 min 5 s

done s2
----
append done s2
append begun s3
wait 2 min 15 s

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

fail s6 it became unhealthy
----
append failed s6: it became unhealthy
append turned: StepFailed { step: StepId(6) }
append undo begun s5
wait 35.0 s

undo-failed s5 nginx does not run
----
append undo failed s5: nginx does not run
wait 2.0 s

after 2s
----
append undo begun s5
wait 35.0 s

undo-failed s5 nginx does not run
----
append undo failed s5: nginx does not run
wait 2.0 s

after 2s
----
append undo begun s5
wait 35.0 s

undo-failed s5 nginx does not run
----
append undo failed s5: nginx does not run
append stuck at s5: nginx does not run

ways
----
--retry: tries this undo up to 3 more times on app-1: nginx sends requests to blue again; then one more step is undone
--unwind: one more step is undone; this undo stays pending on app-1, and no deployment uses the host before it is done: nginx sends requests to blue again (refused: without s5, a safety rule is broken: the plan does not end with the traffic in green)
--skip s5: one more step is undone; this undo is never done on app-1, and you clean up by hand: nginx sends requests to blue again (refused: without s5, a safety rule is broken: the plan does not end with the traffic in green)

resolve anna --unwind
----
refused: without s5, a safety rule is broken: the plan does not end with the traffic in green

resolve anna --skip s5
----
refused: without s5, a safety rule is broken: the plan does not end with the traffic in green

# A successor offers the same.
crash
----
nothing is open

resolve anna --retry
----
append resumed by anna
append undo begun s5
wait 35.0 s

undone s5
----
append undo done s5
append undo begun s3
wait 2 min 15 s

undone s3
----
append undo done s3
append ended: rolled back
