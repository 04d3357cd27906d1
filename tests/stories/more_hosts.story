# A second app host: what is live stays where it is, on one, and the new release is on both. The site changes once, named
# in the plan, and taking it back sends the traffic to the one that had it.
host app-1
host edge-1
spec database none
spec hosts app-1 edge-1
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s4 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s7 wave 6 edge-1 switch: traffic goes from no slot to blue, proved through nginx
s8 wave 7 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s9 wave 8 app-1 workers: blue is told that it is live (housekeeping)
s10 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:1 is live in blue

host app-2
spec hosts app-1,app-2 edge-1
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
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s10 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s11 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s12 wave 8 app-1 workers: green is told that it is live (housekeeping)
s13 wave 8 app-2 workers: green is told that it is live (housekeeping)
s14 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s15 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s16 wave 9 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show endpoints
----
s8 health: 10.0.0.1:20001 10.0.0.3:20001
s9 site: blue 10.0.0.1:20000, green 10.0.0.1:20001 10.0.0.3:20001
s10 switch: 10.0.0.1:20001 10.0.0.3:20001
s10 undo switch: 10.0.0.1:20000
s11 bake: 10.0.0.1:20001 10.0.0.3:20001
s14 drain: 10.0.0.1:20000

# nginx must have all those that the switch names, and no others.
break forget-target site
----
s10: nginx has other instances of green than it names

break forget-target switch
----
s10: it leaves out 10.0.0.3:20001, which is an instance of green
s10: nginx has other instances of green than it names

finish
----
succeeded: notes:2 is live in green

# Back to a release from when there was one host: on both that serve.
rollback
----
s1 wave 1 app-1 preflight: nothing: looks at tools, ports and image
s2 wave 1 app-2 preflight: nothing: looks at tools, ports and image
s3 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s4 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s5 wave 3 app-2 start: 1b0e989 runs in blue again
s6 wave 4 edge-1 health: nothing: asks /health for 3 good answers in a row
s7 wave 5 edge-1 site: nginx serves notes.example as it was (one reload: clients with idle connections may have to reconnect)
s8 wave 6 edge-1 switch: traffic goes from green to blue, proved through nginx
s9 wave 7 app-1 workers: blue is told that it is live (housekeeping)
s10 wave 7 app-2 workers: blue is told that it is live (housekeeping)
warning: notes:1 is not warm any more: it is started first, which takes longer than a switch

show endpoints
----
s6 health: 10.0.0.1:20000 10.0.0.3:20000
s7 site: blue 10.0.0.1:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.3:20001
s8 switch: 10.0.0.1:20000 10.0.0.3:20000
s8 undo switch: 10.0.0.1:20001 10.0.0.3:20001

finish
----
succeeded: notes:1 is live in blue

# A host that serves cannot be left out of the file.
spec hosts app-2 edge-1
deploy notes:3
----
refused: app-1 serves notes/production, and deployment.yml does not name it
  why: its containers would go on running beside the new ones
  next: name app-1 in hosts.app, or take it out: lockstep host remove production app-1

# Nor can one host be two.
spec hosts app-1,app-1 edge-1
check
----
hosts.app: names app-1 twice; name each host once

spec hosts app-1,app-2 edge-1
spec volume uploads:/data
check
----
processes.web.volumes[0]: uploads is of one host, and hosts.app names several; say what it is on the others: uploads:/data:shared where all see the same files, uploads:/data:per_host where each has its own

spec parallel 0
check
----
deploy.parallel: is 0; one host at a time is the least; all at once where it is not said
processes.web.volumes[0]: uploads is of one host, and hosts.app names several; say what it is on the others: uploads:/data:shared where all see the same files, uploads:/data:per_host where each has its own
