# What a rollback may need stays: the live release, the newest that were good, and what another environment needs.
host app-1
spec database none
spec bake 0s
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:1 is live in blue

deploy notes:2
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:2 is live in green

deploy notes:3
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s3 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:3 is live in blue

deploy notes:4
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:4 (1ef32ac) unless the host has it
s3 wave 3 app-1 start: starts web of 1ef32ac in green; replaces 4d54a7b there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:4 is live in green

deploy notes:5
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:5 (0b0c12e) unless the host has it
s3 wave 3 app-1 start: starts web of 0b0c12e in blue; replaces 03a5970 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:5 is live in blue

deploy notes:6
show images
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:6 (bb86f74) unless the host has it
s3 wave 3 app-1 start: starts web of bb86f74 in green; replaces 1ef32ac there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs: notes:1 (housekeeping)
kept bb86f74 0b0c12e 1ef32ac 03a5970 4d54a7b; removed 1b0e989

finish
----
succeeded: notes:6 is live in green

# Of the oldest two, one is where another environment on this host would go back to.
elsewhere notes:1
deploy notes:7
show images
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:7 (3e25c7d) unless the host has it
s3 wave 3 app-1 start: starts web of 3e25c7d in blue; replaces 0b0c12e there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs: notes:2 (housekeeping)
kept 3e25c7d bb86f74 0b0c12e 1ef32ac 03a5970; removed 4d54a7b
