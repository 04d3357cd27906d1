# What is live runs on one more host: nothing of the others is touched, and the site is told last.
host app-1
host app-2
host app-3
host edge-1
spec database none
spec worker
spec hosts app-1,app-2 edge-1
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s5 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s7 wave 3 app-2 start: starts web of 1b0e989 in blue; the slot is empty
s8 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s10 wave 6 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s11 wave 7 app-1 workers: stops the old workers, then starts those of blue
s12 wave 7 app-2 workers: stops the old workers, then starts those of blue
s13 wave 8 edge-1 bake: watches blue under traffic for 20.0 s
s14 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s15 wave 9 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:1 is live in blue

add app-3
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s4 wave 3 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 app-3 workers: starts the workers of blue, stops all others, and notifies blue that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
warning: change deployment.yml as well, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [app-1] }

show endpoints
----
s5 health: 10.0.0.3:20000
s6 site: blue 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001

show undo
----
s1 preflight undo: nothing: it only checks
s2 preflight undo: nothing: it only checks
s3 image undo: nothing: an unused image does no harm; clean up removes it
s4 start undo: stop: stops and removes blue
s5 health undo: nothing: it only checks
s6 site undo: restore site: restores the previous nginx site
s7 workers undo: workers: stops its workers

# A host gets requests only once it is healthy, and nginx has to be told.
break drop-last health
----
s6: sends requests to 10.0.0.3:20000 before it is healthy

break drop-last site
----
no step tells nginx whether app-3 gets traffic

# What is live on the others is nobody's to touch.
break move start app-1
----
s4: starts or stops blue, which is live

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

# It does not become healthy: what was begun is taken back, and nginx never heard of it.
fail s5 10.0.0.3 answers 500
----
append failed s5: 10.0.0.3 answers 500
append turned: StepFailed { step: StepId(5) }
append undo begun s4
wait 2 min 15 s

undone s4
----
append undo done s4
append ended: rolled back

add app-3
finish
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s4 wave 3 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 app-3 workers: starts the workers of blue, stops all others, and notifies blue that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
warning: change deployment.yml as well, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [app-1] }
succeeded: notes:1 is live in blue

add app-3
----
refused: app-3 already serves notes/production
  why: nginx sends requests to it
  next: lockstep status notes/production

# Out of the traffic first, then nothing runs there; it stays declared.
drain app-3
----
s1 wave 1 edge-1 site: nginx sends no requests to app-3 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-3 to end (housekeeping)
s3 wave 3 app-3 stop: stops and removes blue (housekeeping)

show endpoints
----
s1 site: blue 10.0.0.1:20000 10.0.0.2:20000, green 10.0.0.1:20001 10.0.0.2:20001
s2 drain: 10.0.0.3:20000

break drop-last site
----
the plan has no step whose failure reverts it
s2: drains blue, which has the traffic
s3: starts or stops blue, which is live
no step tells nginx whether app-3 gets traffic

finish
----
succeeded: notes:1 is live in blue

# A release leaves it out, and says so.
spec hosts app-1,app-2,app-3 edge-1
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s5 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s7 wave 3 app-2 start: starts web of 4d54a7b in green; the slot is empty
s8 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s9 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s10 wave 6 app-1 workers: stops the old workers, then starts those of green
s11 wave 6 app-2 workers: stops the old workers, then starts those of green
s12 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s13 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s14 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s15 wave 9 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:2 is live in green

# Back: with what is live by then.
add app-3
finish
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 app-3 image: gets notes:2 (4d54a7b) unless the host has it
s4 wave 3 app-3 start: starts web of 4d54a7b in green; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 app-3 workers: starts the workers of green, stops all others, and notifies green that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
succeeded: notes:2 is live in green

# A host that does not answer is taken out all the same.
silent app-2
drain app-2
----
s1 wave 1 edge-1 site: nginx sends no requests to app-2 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-2 to end (housekeeping)
warning: app-2 does not answer: its containers are not stopped, and get no requests

finish
----
succeeded: notes:2 is live in green

# What was drained can be removed; both its slots end.
remove app-3
----
s1 wave 1 edge-1 site: nginx sends no requests to app-3 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-3 to end (housekeeping)
s3 wave 3 app-3 stop: stops and removes green (housekeeping)
s4 wave 4 app-3 stop: stops and removes blue (housekeeping)
warning: change deployment.yml as well, or the next deployment uses the host again: production: hosts: { app: [app-1, app-2], lb: [edge-1], db: [app-1] }

finish
----
succeeded: notes:2 is live in green

# Somebody has to answer.
drain app-1
----
refused: app-1 is the only host that serves notes/production
  why: no app host would be left to serve requests
  next: lockstep host list    # first add another of them: lockstep host add notes/production HOST

remove app-9
----
refused: app-9 does not serve notes/production
  why: nginx sends requests to: app-1
  next: lockstep status notes/production

drain app-2
----
refused: app-2 does not serve notes/production
  why: nginx sends requests to: app-1
  next: lockstep status notes/production

# With a quorum a release passes by a host that does not answer; its traffic ends with the switch.
host app-5
spec hosts app-1,app-5 edge-1
deploy notes:3
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-5 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s5 wave 2 app-5 image: gets notes:3 (03a5970) unless the host has it
s6 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s7 wave 3 app-5 start: starts web of 03a5970 in blue; the slot is empty
s8 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s10 wave 6 edge-1 switch: switches traffic from green to blue, verified through nginx
s11 wave 7 app-1 workers: stops the old workers, then starts those of blue
s12 wave 7 app-5 workers: stops the old workers, then starts those of blue
s13 wave 8 edge-1 bake: watches blue under traffic for 20.0 s
s14 wave 9 edge-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s15 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s16 wave 10 app-5 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:3 is live in blue

silent app-5
spec quorum 2
deploy notes:4
----
refused: available app hosts of notes/production: 1, and deploy.quorum is 2
  why: app-5: it did not answer
  next: lockstep host list    # on a host that is offline: systemctl start lockstep-agent

spec quorum 1
deploy notes:4
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:4 (1ef32ac) unless the host has it
s4 wave 3 app-1 start: starts web of 1ef32ac in green; replaces 4d54a7b there
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 6 app-1 workers: stops the old workers, then starts those of green
s8 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s9 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s10 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: app-5 is excluded because it did not answer: its containers keep running and get no requests after the switch

show endpoints
----
s5 health: 10.0.0.1:20001
s6 switch: 10.0.0.1:20001
s6 undo switch: 10.0.0.1:20000 10.0.0.5:20000
s8 bake: 10.0.0.1:20001
s9 drain: 10.0.0.1:20000 10.0.0.5:20000

finish
----
succeeded: notes:4 is live in green

spec quorum 3
check
----
deploy.quorum: is more than there are app hosts; omit it to need every app host

spec quorum 1

# A volume of one host is refused a second.
host app-4
spec hosts app-1 edge-1
spec volume uploads:/data
deploy notes:3
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s4 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 03a5970 there
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 edge-1 switch: switches traffic from green to blue, verified through nginx
s8 wave 7 app-1 workers: stops the old workers, then starts those of blue
s9 wave 8 edge-1 bake: watches blue under traffic for 20.0 s
s10 wave 9 edge-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s11 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:3 is live in blue

add app-4
----
refused: the live release of notes/production cannot run on these hosts
  why: processes.web.volumes[0]: uploads is a volume of one host, and hosts.app names several; write uploads:/data:shared if all hosts see the same files, or uploads:/data:per_host if each host has its own; processes.worker.volumes[0]: uploads is a volume of one host, and hosts.app names several; write uploads:/data:shared if all hosts see the same files, or uploads:/data:per_host if each host has its own
  next: lockstep deploy notes/production --image notes:3    # once deployment.yml is corrected; then repeat this command
