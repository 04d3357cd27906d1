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
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s5 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s6 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s7 wave 3 app-2 start: web of 1b0e989 in blue; the slot is empty
s8 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s10 wave 6 edge-1 switch: traffic goes from no slot to blue, proved through nginx
s11 wave 7 app-1 workers: the old workers end, then those of blue run
s12 wave 7 app-2 workers: the old workers end, then those of blue run
s13 wave 8 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s14 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s15 wave 9 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:1 is live in blue

add app-3
----
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s4 wave 3 app-3 start: web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s7 wave 6 app-3 workers: the workers of blue run, and no others; blue is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
warning: deployment.yml is to say so too, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [app-1] }

show endpoints
----
s5 health: 10.0.0.3:20000
s6 site: blue 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001

show undo
----
s1 preflight undo: nothing: it only looks
s2 preflight undo: nothing: it only looks
s3 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s4 start undo: stop: blue is stopped and removed
s5 health undo: nothing: it only looks
s6 site undo: restore site: nginx has the site that it had
s7 workers undo: workers: its workers end

# A host gets requests only once it is healthy, and nginx has to be told.
break drop-last health
----
s6: it sends requests to 10.0.0.3:20000 before that is healthy

break drop-last site
----
nginx is not told whether app-3 has traffic

# What is live on the others is nobody's to touch.
break move start app-1
----
s4: it touches blue, which is live

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
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s4 wave 3 app-3 start: web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s7 wave 6 app-3 workers: the workers of blue run, and no others; blue is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
warning: deployment.yml is to say so too, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [app-1] }
succeeded: notes:1 is live in blue

add app-3
----
refused: app-3 serves notes/production already
  why: nginx sends it requests
  next: lockstep status production

# Out of the traffic first, then nothing runs there; it stays declared.
drain app-3
----
s1 wave 1 edge-1 site: nginx sends no request to app-3 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-3 to end, for at most 30.0 s (housekeeping)
s3 wave 3 app-3 stop: blue is stopped and removed (housekeeping)

show endpoints
----
s1 site: blue 10.0.0.1:20000 10.0.0.2:20000, green 10.0.0.1:20001 10.0.0.2:20001
s2 drain: 10.0.0.3:20000

break drop-last site
----
it has no step that decides
s2: it drains blue, which has the traffic
s3: it touches blue, which is live
nginx is not told whether app-3 has traffic

finish
----
succeeded: notes:1 is live in blue

# A release leaves it out, and says so.
spec hosts app-1,app-2,app-3 edge-1
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s5 wave 2 app-2 image: notes:2 (4d54a7b) is on the host
s6 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s7 wave 3 app-2 start: web of 4d54a7b in green; the slot is empty
s8 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s9 wave 5 edge-1 switch: traffic goes from blue to green, proved through nginx
s10 wave 6 app-1 workers: the old workers end, then those of green run
s11 wave 6 app-2 workers: the old workers end, then those of green run
s12 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s13 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s14 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s15 wave 9 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
----
succeeded: notes:2 is live in green

# Back: with what is live by then.
add app-3
finish
----
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 app-3 image: notes:2 (4d54a7b) is on the host
s4 wave 3 app-3 start: web of 4d54a7b in green; the slot is empty
s5 wave 4 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s7 wave 6 app-3 workers: the workers of green run, and no others; green is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
succeeded: notes:2 is live in green

# A host that does not answer is taken out all the same.
silent app-2
drain app-2
----
s1 wave 1 edge-1 site: nginx sends no request to app-2 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-2 to end, for at most 30.0 s (housekeeping)
warning: app-2 does not answer: what runs there is not stopped, and gets no requests

finish
----
succeeded: notes:2 is live in green

# What was drained can be removed; both its slots end.
remove app-3
----
s1 wave 1 edge-1 site: nginx sends no request to app-3 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-3 to end, for at most 30.0 s (housekeeping)
s3 wave 3 app-3 stop: green is stopped and removed (housekeeping)
s4 wave 4 app-3 stop: blue is stopped and removed (housekeeping)
warning: deployment.yml is to say so too, or the next deployment brings it back: production: hosts: { app: [app-1, app-2], lb: [edge-1], db: [app-1] }

finish
----
succeeded: notes:2 is live in green

# Somebody has to answer.
drain app-1
----
refused: app-1 is the only host that serves notes/production
  why: nobody would answer
  next: lockstep host add production HOST, and then this again

remove app-9
----
refused: app-9 does not serve notes/production
  why: nginx sends requests to: app-1
  next: lockstep status production

drain app-2
----
refused: app-2 does not serve notes/production
  why: nginx sends requests to: app-1
  next: lockstep status production

# With a quorum a release passes by a host that does not answer; its traffic ends with the switch.
host app-5
spec hosts app-1,app-5 edge-1
deploy notes:3
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-5 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 2 app-1 image: notes:3 (03a5970) is on the host
s5 wave 2 app-5 image: notes:3 (03a5970) is on the host
s6 wave 3 app-1 start: web of 03a5970 in blue; replaces 1b0e989 there
s7 wave 3 app-5 start: web of 03a5970 in blue; the slot is empty
s8 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s10 wave 6 edge-1 switch: traffic goes from green to blue, proved through nginx
s11 wave 7 app-1 workers: the old workers end, then those of blue run
s12 wave 7 app-5 workers: the old workers end, then those of blue run
s13 wave 8 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s14 wave 9 edge-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s15 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s16 wave 10 app-5 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:3 is live in blue

silent app-5
spec quorum 2
deploy notes:4
----
refused: 1 app hosts of notes/production can be deployed to, and deploy.quorum is 2
  why: app-5: it did not answer
  next: lockstep host list, and on those hosts: systemctl status lockstep-agent

spec quorum 1
deploy notes:4
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 2 app-1 image: notes:4 (1ef32ac) is on the host
s4 wave 3 app-1 start: web of 1ef32ac in green; replaces 4d54a7b there
s5 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 switch: traffic goes from blue to green, proved through nginx
s7 wave 6 app-1 workers: the old workers end, then those of green run
s8 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s9 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s10 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: app-5 is passed by, as it did not answer: what runs there goes on, and gets no requests after the switch

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
deploy.quorum: is more than there are app hosts; leave it out where each must answer

spec quorum 1

# A volume of one host is refused a second.
host app-4
spec hosts app-1 edge-1
spec volume uploads:/data
deploy notes:3
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 2 app-1 image: notes:3 (03a5970) is on the host
s4 wave 3 app-1 start: web of 03a5970 in blue; replaces 03a5970 there
s5 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s7 wave 6 edge-1 switch: traffic goes from green to blue, proved through nginx
s8 wave 7 app-1 workers: the old workers end, then those of blue run
s9 wave 8 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s10 wave 9 edge-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s11 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:3 is live in blue

add app-4
----
refused: what is live in notes/production cannot be on these hosts
  why: processes.web.volumes[0]: uploads is of one host, and hosts.app names several; say what it is on the others: uploads:/data:shared where all see the same files, uploads:/data:per_host where each has its own; processes.worker.volumes[0]: uploads is of one host, and hosts.app names several; say what it is on the others: uploads:/data:shared where all see the same files, uploads:/data:per_host where each has its own
  next: change deployment.yml, deploy it, and then this again: lockstep deploy production
