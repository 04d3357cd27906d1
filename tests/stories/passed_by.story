# With a quorum, an app host that falls ill before nginx is told is passed by, and the others go on.
host app-1
host app-2
host app-3
host edge-1
spec hosts app-1,app-2,app-3 edge-1
spec bake 0s
spec drain 0s
spec worker
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s8 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s9 wave 3 app-2 start: starts web of 1b0e989 in blue; the slot is empty
s10 wave 3 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s11 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s12 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s13 wave 6 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s14 wave 7 app-1 workers: stops the old workers, then starts those of blue
s15 wave 7 app-2 workers: stops the old workers, then starts those of blue
s16 wave 7 app-3 workers: stops the old workers, then starts those of blue
s17 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 8 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 8 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:1 is live in blue

# The site is in the plan though nothing of it changes: it may have to lose a host.
spec quorum 2
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
s10 wave 3 app-3 start: starts web of 4d54a7b in green; the slot is empty
s11 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without one unhealthy host
s12 wave 5 edge-1 site: changes nothing, unless a host is excluded: then one reload removes it
s13 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s14 wave 7 app-1 workers: stops the old workers, then starts those of green
s15 wave 7 app-2 workers: stops the old workers, then starts those of green
s16 wave 7 app-3 workers: stops the old workers, then starts those of green
s17 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 8 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 8 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

show endpoints
----
s11 health: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s12 site: blue 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000, green 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s13 switch: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s13 undo switch: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000

# Its start fails: what it has begun is owed, and everything from here on is without it.
open
decide
----
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
append begun s9
append begun s10
wait 2 min 15 s

fail s9 no space left on device
----
append failed s9: no space left on device
append passed by host_00000000000000000000000002, because of s9
append owed s9: app-2 was excluded
app-2 owes: stops and removes green
wait 2 min 15 s

# The debt is recorded before anything else begins; a successor knows as much.
crash
----
ask about s8 do
ask about s10 do

decide
----
wait 2 min 15 s

# A second one would be too many.
done s8
done s10
----
append done s8
wait 2 min 15 s
append done s10
append begun s11
wait 1 min 15 s

ill s11 app-3
----
append done s11
append turned: StepFailed { step: StepId(11) }
append undo begun s8
append undo begun s10
wait 2 min 15 s

undone s8
undone s10
decide
----
append undo done s8
wait 2 min 15 s
append undo done s10
append ended: rolled back

# Not healthy at the end of the check: passed by as well, after which the check need not be repeated.
deploy notes:3
open
decide
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s6 wave 2 app-2 image: gets notes:3 (03a5970) unless the host has it
s7 wave 2 app-3 image: gets notes:3 (03a5970) unless the host has it
s8 wave 3 app-1 start: starts web of 03a5970 in green; the slot is empty
s9 wave 3 app-2 start: starts web of 03a5970 in green; the slot is empty
s10 wave 3 app-3 start: starts web of 03a5970 in green; the slot is empty
s11 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without one unhealthy host
s12 wave 5 edge-1 site: changes nothing, unless a host is excluded: then one reload removes it
s13 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s14 wave 7 app-1 workers: stops the old workers, then starts those of green
s15 wave 7 app-2 workers: stops the old workers, then starts those of green
s16 wave 7 app-3 workers: stops the old workers, then starts those of green
s17 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 8 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 8 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
done s8
done s9
done s10
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
append begun s9
append begun s10
wait 2 min 15 s
append done s8
wait 2 min 15 s
append done s9
wait 2 min 15 s
append done s10
append begun s11
wait 1 min 15 s

ill s11 app-2
----
append done s11
append passed by host_00000000000000000000000002, because of s11
append owed s9: app-2 was excluded
app-2 owes: stops and removes green
append begun s12
wait 35.0 s

finish
----
succeeded: notes:3 is live in green

# It has a part in the next release again, and nobody has to say so.
deploy notes:4
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:4 (1ef32ac) unless the host has it
s6 wave 2 app-2 image: gets notes:4 (1ef32ac) unless the host has it
s7 wave 2 app-3 image: gets notes:4 (1ef32ac) unless the host has it
s8 wave 3 app-1 start: starts web of 1ef32ac in blue; replaces 1b0e989 there
s9 wave 3 app-2 start: starts web of 1ef32ac in blue; replaces 1b0e989 there
s10 wave 3 app-3 start: starts web of 1ef32ac in blue; replaces 1b0e989 there
s11 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without one unhealthy host
s12 wave 5 edge-1 site: changes nothing, unless a host is excluded: then one reload removes it
s13 wave 6 edge-1 switch: switches traffic from green to blue, verified through nginx
s14 wave 7 app-1 workers: stops the old workers, then starts those of blue
s15 wave 7 app-2 workers: stops the old workers, then starts those of blue
s16 wave 7 app-3 workers: stops the old workers, then starts those of blue
s17 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 8 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 8 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:4 is live in blue

# Who has the database is not passed by.
spec quorum 1
spec parallel 1
deploy notes:5
open
decide
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:5 (0b0c12e) unless the host has it
s6 wave 2 app-2 image: gets notes:5 (0b0c12e) unless the host has it
s7 wave 2 app-3 image: gets notes:5 (0b0c12e) unless the host has it
s8 wave 3 app-1 start: starts web of 0b0c12e in green; replaces 03a5970 there
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s10 wave 5 app-2 start: starts web of 0b0c12e in green; the slot is empty
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s12 wave 7 app-3 start: starts web of 0b0c12e in green; replaces 03a5970 there
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s14 wave 9 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s15 wave 10 edge-1 switch: switches traffic from blue to green, verified through nginx
s16 wave 11 app-1 workers: stops the old workers, then starts those of green
s17 wave 11 app-2 workers: stops the old workers, then starts those of green
s18 wave 11 app-3 workers: stops the old workers, then starts those of green
s19 wave 12 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s20 wave 12 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 12 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
wait 2 min 15 s

fail s8 no space left on device
----
append failed s8: no space left on device
append turned: StepFailed { step: StepId(8) }
append undo begun s8
wait 2 min 15 s

finish
----
rolled back: the record is as it was

# One host after the other: the checks that come later ask one host less.
deploy notes:5
open
decide
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:5 (0b0c12e) unless the host has it
s6 wave 2 app-2 image: gets notes:5 (0b0c12e) unless the host has it
s7 wave 2 app-3 image: gets notes:5 (0b0c12e) unless the host has it
s8 wave 3 app-1 start: starts web of 0b0c12e in green; replaces 03a5970 there
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s10 wave 5 app-2 start: starts web of 0b0c12e in green; the slot is empty
s11 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s12 wave 7 app-3 start: starts web of 0b0c12e in green; replaces 03a5970 there
s13 wave 8 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without up to 2 unhealthy hosts
s14 wave 9 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s15 wave 10 edge-1 switch: switches traffic from blue to green, verified through nginx
s16 wave 11 app-1 workers: stops the old workers, then starts those of green
s17 wave 11 app-2 workers: stops the old workers, then starts those of green
s18 wave 11 app-3 workers: stops the old workers, then starts those of green
s19 wave 12 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s20 wave 12 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 12 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
append begun s1
append begun s2
append begun s3
append begun s4
wait 1 min 5 s

done s1
done s2
done s3
done s4
done s5
done s6
done s7
done s8
done s9
----
append done s1
wait 1 min 5 s
append done s2
wait 1 min 5 s
append done s3
wait 1 min 5 s
append done s4
append begun s5
append begun s6
append begun s7
wait 10 min 5 s
append done s5
wait 10 min 5 s
append done s6
wait 10 min 5 s
append done s7
append begun s8
wait 2 min 15 s
append done s8
append begun s9
wait 1 min 15 s
append done s9
append begun s10
wait 2 min 15 s

fail s10 no space left on device
----
append failed s10: no space left on device
append passed by host_00000000000000000000000002, because of s10
append owed s10: app-2 was excluded
app-2 owes: stops and removes green
append begun s11
wait 1 min 15 s

done s11
done s12
----
append done s11
append begun s12
wait 2 min 15 s
append done s12
append begun s13
wait 1 min 15 s

ill s13 app-3
----
append done s13
append passed by host_00000000000000000000000003, because of s13
append owed s12: app-3 was excluded
app-3 owes: stops and removes green
append begun s14
wait 35.0 s

finish
----
succeeded: notes:5 is live in green

# Who is passed by can be drained: then it is not brought back.
drain app-3
finish
----
s1 wave 1 edge-1 site: nginx sends no requests to app-3 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 app-3 stop: stops and removes green (housekeeping)
succeeded: notes:5 is live in green

deploy notes:6
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 2 app-1 image: gets notes:6 (bb86f74) unless the host has it
s5 wave 2 app-2 image: gets notes:6 (bb86f74) unless the host has it
s6 wave 3 app-1 start: starts web of bb86f74 in blue; replaces 1ef32ac there
s7 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without one unhealthy host
s8 wave 5 app-2 start: starts web of bb86f74 in blue; replaces 1ef32ac there
s9 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min; continues without one unhealthy host
s10 wave 7 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s11 wave 8 edge-1 switch: switches traffic from green to blue, verified through nginx
s12 wave 9 app-1 workers: stops the old workers, then starts those of blue
s13 wave 9 app-2 workers: stops the old workers, then starts those of blue
s14 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s15 wave 10 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)

# What it has begun is still there at the next release, which passes it by from the beginning.
owes app-2
deploy notes:6
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 2 app-1 image: gets notes:6 (bb86f74) unless the host has it
s4 wave 3 app-1 start: starts web of bb86f74 in blue; replaces 1ef32ac there
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 5 edge-1 switch: switches traffic from green to blue, verified through nginx
s7 wave 6 app-1 workers: stops the old workers, then starts those of blue
s8 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: app-2 is excluded because it has pending undos: its containers keep running and get no requests after the switch

show omitted
----
no app-3: it was drained; to use it again: lockstep host add notes/production app-3
no app-2: it has pending undos; to use it again: lockstep host add notes/production app-2
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no migration: the image has no migrations in /migrations
no snapshot: there is no migration to run
no nginx site: the site needs no change; the switch changes a file and needs no reload
no bake: deploy.bake is 0s
no drain: deploy.drain is 0s

spec quorum 3
deploy notes:6
----
refused: available app hosts of notes/production: 1, and deploy.quorum is 3
  why: app-2: it has pending undos
  next: lockstep host list    # on a host that is offline: systemctl start lockstep-agent
