# A second app host: what is live stays where it is, on one, and the new release is on both. The site changes once, named
# in the plan, and taking it back sends the traffic to the one that had it.
host app-1
host edge-1
spec database none
spec hosts app-1 edge-1
deploy notes:1
finish
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
succeeded: notes:1 is live in blue

host app-2
spec hosts app-1,app-2 edge-1
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
s9 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s10 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s11 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s12 wave 8 app-1 workers: notifies green that it is live (housekeeping)
s13 wave 8 app-2 workers: notifies green that it is live (housekeeping)
s14 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s15 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s16 wave 9 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)

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
s10: names other instances of green than the nginx site has

break forget-target switch
----
s10: omits 10.0.0.3:20001, which is an instance of green
s10: names other instances of green than the nginx site has

finish
----
succeeded: notes:2 is live in green

# Back to a release from when there was one host: on both that serve.
rollback
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 1 app-2 preflight: checks tools, ports and image; changes nothing
s3 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s4 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s5 wave 3 app-2 start: starts 1b0e989 in blue again
s6 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health
s7 wave 5 edge-1 site: nginx serves notes.example as before (one reload: clients with idle connections to this nginx may have to reconnect)
s8 wave 6 edge-1 switch: switches traffic from green to blue, verified through nginx
s9 wave 7 app-1 workers: notifies blue that it is live (housekeeping)
s10 wave 7 app-2 workers: notifies blue that it is live (housekeeping)
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch

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
refused: app-1 serves notes/production, but deployment.yml does not name it
  why: its containers would keep running beside the new ones
  next: lockstep host remove notes/production app-1    # or add app-1 to hosts.app in deployment.yml

# Nor can one host be two.
spec hosts app-1,app-1 edge-1
check
----
hosts.app: names app-1 twice; name each host once

spec hosts app-1,app-2 edge-1
spec volume uploads:/data
check
----
processes.web.volumes[0]: uploads is a volume of one host, and hosts.app names several; write uploads:/data:shared if all hosts see the same files, or uploads:/data:per_host if each host has its own

spec parallel 0
check
----
deploy.parallel: is 0; write at least 1, or omit it to deploy to all hosts at once
processes.web.volumes[0]: uploads is a volume of one host, and hosts.app names several; write uploads:/data:shared if all hosts see the same files, or uploads:/data:per_host if each host has its own
