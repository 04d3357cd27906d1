# A host that goes away while a deployment is taken back is not waited for: after a minute without a session its
# undo is owed, and the unwinding goes on. The load balancer is another host.
host edge-1

host app-1

spec database none

spec hosts app-1 edge-1

deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s4 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s8 wave 7 edge-1 bake: watches blue under traffic for 20.0 s
s9 wave 8 app-1 workers: notifies blue that it is live (housekeeping)
s10 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:1 is live in blue

deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s4 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 6 edge-1 bake: watches green under traffic for 20.0 s
s8 wave 7 app-1 workers: notifies green that it is live (housekeeping)
s9 wave 7 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

open

decide
----
append begun s1
append begun s2
wait 1 min 5 s

done s1
----
append done s1
wait 1 min 5 s

done s2
----
append done s2
append begun s3
wait 10 min 5 s

done s3
----
append done s3
append begun s4
wait 2 min 15 s

done s4
----
append done s4
append begun s5
wait 1 min 15 s

away app-1

# The health check is asked from the load balancer's host; the app host is to stop what it has started.
fail s5 no answer
----
append failed s5: no answer
append turned: StepFailed { step: StepId(5) }
append undo begun s4
wait 1 min

after 30s
----
wait 30.0 s

after 30s
----
append owed s4: app-1 has been offline for 1 min
app-1 owes: stops and removes green
append ended: rolled back

# What comes late from it changes nothing: it is a debt.
undone s4
----
refused: entry 15 of the journal is invalid: Done { step: StepId(4), direction: Undo, finding: Finding { said: "", migrated: None, snapshot: None, probes: [], traffic: None, switch_took: None, unhealthy: [], reloaded: false } } comes after the end

# It goes away in the middle of a step: nobody knows what became of that, and it is owed too.
back app-1

deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s4 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 6 edge-1 bake: watches green under traffic for 20.0 s
s8 wave 7 app-1 workers: notifies green that it is live (housekeeping)
s9 wave 7 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

open

decide
----
append begun s1
append begun s2
wait 1 min 5 s

done s1
----
append done s1
wait 1 min 5 s

done s2
----
append done s2
append begun s3
wait 10 min 5 s

done s3
----
append done s3
append begun s4
wait 2 min 15 s

away app-1

after 5m
----
append unknown s4: start on app-1 reported no result within 2 min 10 s
append turned: StepFailed { step: StepId(4) }
append owed s4: app-1 has been offline for 5 min
app-1 owes: stops and removes green
append ended: rolled back

# A load balancer that is gone may be serving: what decides where the traffic goes is never owed.
back app-1

deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s4 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 6 edge-1 bake: watches green under traffic for 20.0 s
s8 wave 7 app-1 workers: notifies green that it is live (housekeeping)
s9 wave 7 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

open

decide
----
append begun s1
append begun s2
wait 1 min 5 s

done s1
----
append done s1
wait 1 min 5 s

done s2
----
append done s2
append begun s3
wait 10 min 5 s

done s3
----
append done s3
append begun s4
wait 2 min 15 s

done s4
----
append done s4
append begun s5
wait 1 min 15 s

done s5
----
append done s5
append begun s6
wait 35.0 s

done s6
----
append done s6
append begun s7
wait 55.0 s

fail s7 it became unhealthy
----
append failed s7: it became unhealthy
append turned: StepFailed { step: StepId(7) }
append undo begun s6
wait 35.0 s

away edge-1

after 5m
----
append undo unknown s6: switch on edge-1 reported no result within 30.0 s
wait 2.0 s

undo-failed s6 it is not there
----
refused: entry 18 of the journal is invalid: Failed { step: StepId(6), direction: Undo, failure: StepFailure { certainty: Failed, what: "it is not there", why: None, tail: [], probes: [], next: None, migrated: None } } cannot follow UndoFailed { at: Timestamp(1769596860000), attempt: 1 }
wait 2.0 s

after 2s
----
append undo begun s6
wait 35.0 s

undo-failed s6 it is not there
----
append undo failed s6: it is not there
wait 2.0 s

after 2s
----
append undo begun s6
wait 35.0 s

undo-failed s6 it is not there
----
append undo failed s6: it is not there
append stuck at s6: it is not there

ways
----
--retry: tries this undo up to 3 more times on edge-1: nginx sends requests to blue again; then one more step is undone
--unwind: one more step is undone; this undo stays pending on edge-1, and no deployment uses the host before it is done: nginx sends requests to blue again (refused: without s6, a safety rule is broken: the plan does not end with the traffic in green)
--skip s6: one more step is undone; this undo is never done on edge-1, and you clean up by hand: nginx sends requests to blue again (refused: without s6, a safety rule is broken: the plan does not end with the traffic in green)

back edge-1

resolve anna --retry
----
append resumed by anna
append undo begun s6
wait 35.0 s

undone s6
----
append undo done s6
append undo begun s4
wait 2 min 15 s

undone s4
----
append undo done s4
append ended: rolled back
