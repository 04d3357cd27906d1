# What a rollback may need stays: the live release, the newest that were good, and what another environment needs.
host app-1
spec database none
spec bake 0s
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s6 wave 6 app-1 switch: traffic goes from no slot to blue, proved through nginx
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:1 is live in blue

deploy notes:2
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from blue to green, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:2 is live in green

deploy notes:3
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:3 (03a5970) is on the host
s3 wave 3 app-1 start: web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from green to blue, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:3 is live in blue

deploy notes:4
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:4 (1ef32ac) is on the host
s3 wave 3 app-1 start: web of 1ef32ac in green; replaces 4d54a7b there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from blue to green, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:4 is live in green

deploy notes:5
finish
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:5 (0b0c12e) is on the host
s3 wave 3 app-1 start: web of 0b0c12e in blue; replaces 03a5970 there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from green to blue, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
succeeded: notes:5 is live in blue

deploy notes:6
show images
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:6 (bb86f74) is on the host
s3 wave 3 app-1 start: web of bb86f74 in green; replaces 1ef32ac there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from blue to green, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
kept bb86f74 0b0c12e 1ef32ac 03a5970 4d54a7b; removed 1b0e989

finish
----
succeeded: notes:6 is live in green

# Of the oldest two, one is where another environment on this host would go back to.
elsewhere notes:1
deploy notes:7
show images
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:7 (3e25c7d) is on the host
s3 wave 3 app-1 start: web of 3e25c7d in blue; replaces 0b0c12e there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from green to blue, proved through nginx
s6 wave 6 app-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
kept 3e25c7d bb86f74 0b0c12e 1ef32ac 03a5970; removed 4d54a7b
