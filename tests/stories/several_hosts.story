# Three app hosts behind one load balancer: the slot is started on all at once, because it carries no traffic, and one
# switch is for all.
host app-1
host app-2
host app-3
host edge-1
spec worker
spec hosts app-1,app-2,app-3 edge-1
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s8 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: migrates the schema from version 0 to 1: create_notes
s10 wave 5 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s11 wave 5 app-2 start: starts web of 1b0e989 in blue; the slot is empty
s12 wave 5 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s13 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 7 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s15 wave 8 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s16 wave 9 app-1 workers: stops the old workers, then starts those of blue
s17 wave 9 app-2 workers: stops the old workers, then starts those of blue
s18 wave 9 app-3 workers: stops the old workers, then starts those of blue
s19 wave 10 edge-1 bake: watches blue under traffic for 20.0 s
s20 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 11 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 11 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:1 is live in blue

migration 2 add_author
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s7 wave 2 app-3 image: gets notes:2 (4d54a7b) unless the host has it
s8 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: migrates the schema from version 1 to 2: add_author
s10 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: starts web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: starts web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 7 edge-1 switch: switches traffic from blue to green, verified through nginx
s15 wave 8 app-1 workers: stops the old workers, then starts those of green
s16 wave 8 app-2 workers: stops the old workers, then starts those of green
s17 wave 8 app-3 workers: stops the old workers, then starts those of green
s18 wave 9 edge-1 bake: watches green under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 11 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 11 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)

show undo
----
s1 preflight undo: nothing: it only checks
s2 preflight undo: nothing: it only checks
s3 preflight undo: nothing: it only checks
s4 preflight undo: nothing: it only checks
s5 image undo: nothing: an unused image does no harm; clean up removes it
s6 image undo: nothing: an unused image does no harm; clean up removes it
s7 image undo: nothing: an unused image does no harm; clean up removes it
s8 snapshot undo: nothing: the snapshot stays
s9 migrate undo: nothing: migrations stay: they only add to the schema, so the previous release runs with them
s10 start undo: stop: stops and removes green
s11 start undo: stop: stops and removes green
s12 start undo: stop: stops and removes green
s13 health undo: nothing: it only checks
s14 switch undo: switch: nginx sends requests to blue again
s15 workers undo: workers: starts the workers of blue again
s16 workers undo: workers: starts the workers of blue again
s17 workers undo: workers: starts the workers of blue again
s18 bake undo: nothing: it only checks
s19 drain undo: nothing: the release is already live; this is housekeeping
s20 clean up undo: nothing: the release is already live; this is housekeeping
s21 clean up undo: nothing: the release is already live; this is housekeeping
s22 clean up undo: nothing: the release is already live; this is housekeeping

show endpoints
----
s13 health: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s14 switch: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s14 undo switch: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000
s18 bake: 10.0.0.1:20001 10.0.0.2:20001 10.0.0.3:20001
s19 drain: 10.0.0.1:20000 10.0.0.2:20000 10.0.0.3:20000

# A start that fails on one host before the switch costs nothing: the slot is taken back on all of them, and the
# traffic was never touched.
open
decide
----
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
wait 20 min 5 s

done s8
----
append done s8
append begun s9
wait 20 min 5 s

done s9
----
append done s9
append begun s10
append begun s11
append begun s12
wait 2 min 15 s

done s10
----
append done s10
wait 2 min 15 s

done s12
----
append done s12
wait 2 min 15 s

fail s11 no memory
----
append failed s11: no memory
append turned: StepFailed { step: StepId(11) }
append undo begun s10
append undo begun s11
append undo begun s12
wait 2 min 15 s

undone s10
----
append undo done s10
wait 2 min 15 s

undone s12
----
append undo done s12
wait 2 min 15 s

undone s11
----
append undo done s11
append ended: rolled back

# Nor does one that does not become healthy.
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
s8 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: migrates the schema from version 1 to 2: add_author
s10 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: starts web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: starts web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 7 edge-1 switch: switches traffic from blue to green, verified through nginx
s15 wave 8 app-1 workers: stops the old workers, then starts those of green
s16 wave 8 app-2 workers: stops the old workers, then starts those of green
s17 wave 8 app-3 workers: stops the old workers, then starts those of green
s18 wave 9 edge-1 bake: watches green under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 11 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 11 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
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
wait 20 min 5 s

done s8
----
append done s8
append begun s9
wait 20 min 5 s

done s9
----
append done s9
append begun s10
append begun s11
append begun s12
wait 2 min 15 s

done s10
----
append done s10
wait 2 min 15 s

done s11
----
append done s11
wait 2 min 15 s

done s12
----
append done s12
append begun s13
wait 1 min 15 s

fail s13 10.0.0.2 answers 500
----
append failed s13: 10.0.0.2 answers 500
append turned: StepFailed { step: StepId(13) }
append undo begun s10
append undo begun s11
append undo begun s12
wait 2 min 15 s

undone s10
----
append undo done s10
wait 2 min 15 s

undone s11
----
append undo done s11
wait 2 min 15 s

undone s12
----
append undo done s12
append ended: rolled back

# A rollback is one switch as well.
deploy notes:2
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s7 wave 2 app-3 image: gets notes:2 (4d54a7b) unless the host has it
s8 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s9 wave 4 app-1 migrate: migrates the schema from version 1 to 2: add_author
s10 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s11 wave 5 app-2 start: starts web of 4d54a7b in green; the slot is empty
s12 wave 5 app-3 start: starts web of 4d54a7b in green; the slot is empty
s13 wave 6 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s14 wave 7 edge-1 switch: switches traffic from blue to green, verified through nginx
s15 wave 8 app-1 workers: stops the old workers, then starts those of green
s16 wave 8 app-2 workers: stops the old workers, then starts those of green
s17 wave 8 app-3 workers: stops the old workers, then starts those of green
s18 wave 9 edge-1 bake: watches green under traffic for 20.0 s
s19 wave 10 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s20 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s21 wave 11 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s22 wave 11 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:2 is live in green

rollback
----
s1 wave 1 edge-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 edge-1 switch: switches traffic from green to blue, verified through nginx
s3 wave 3 app-1 workers: stops the other workers, then starts those of blue
s4 wave 3 app-2 workers: stops the other workers, then starts those of blue
s5 wave 3 app-3 workers: stops the other workers, then starts those of blue
warning: migrations stay: the schema keeps version 2, and notes:1 was built for version 1

finish
----
succeeded: notes:1 is live in blue

# One host is cold: the slot is started there, and only there.
slot green stopped on app-2
rollback to 4
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 1 app-2 preflight: checks tools, ports and image; changes nothing
s3 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s4 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s5 wave 2 app-2 image: gets notes:2 (4d54a7b) unless the host has it
s6 wave 3 app-2 start: starts 4d54a7b in green again
s7 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health
s8 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s9 wave 6 app-1 workers: stops the other workers, then starts those of green
s10 wave 6 app-2 workers: stops the other workers, then starts those of green
s11 wave 6 app-3 workers: stops the other workers, then starts those of green
warning: notes:2 is no longer warm: it is started first, which takes longer than a switch

finish
----
succeeded: notes:2 is live in green

# No rule lets a host be forgotten, or the traffic go where nobody asked.
deploy notes:3
break forget-target health
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s6 wave 2 app-2 image: gets notes:3 (03a5970) unless the host has it
s7 wave 2 app-3 image: gets notes:3 (03a5970) unless the host has it
s8 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s9 wave 3 app-2 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s10 wave 3 app-3 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s11 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s12 wave 5 edge-1 switch: switches traffic from green to blue, verified through nginx
s13 wave 6 app-1 workers: stops the old workers, then starts those of blue
s14 wave 6 app-2 workers: stops the old workers, then starts those of blue
s15 wave 6 app-3 workers: stops the old workers, then starts those of blue
s16 wave 7 edge-1 bake: watches blue under traffic for 20.0 s
s17 wave 8 edge-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s18 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 9 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s20 wave 9 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
s12: switches to blue before every instance is healthy

break forget-target switch
----
s12: omits 10.0.0.3:20000, which is an instance of blue
