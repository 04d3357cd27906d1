# nginx's site follows the declaration; what somebody changed in it by hand is not overwritten unasked.
host app-1
spec snapshot none
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s6 wave 6 app-1 switch: traffic goes from no slot to blue, proved through nginx
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

open

finish
----
succeeded: notes:1 is live in blue

# Where no other site is needed, a change by hand is nobody's business but its author's.
site-changed-by-hand
deploy notes:2
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 switch: traffic goes from blue to green, proved through nginx
s6 wave 6 app-1 bake: nothing: green is watched under traffic for 20.0 s
s7 wave 7 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no migration: the image has none in /migrations
no snapshot: nothing migrates
no nginx site: what was changed by hand on app-1 is left as it is (lines: 2 added, 1 removed): lockstep doctor notes/production
no workers: no process has the role worker

# Where one is, it is refused, and the way on is named.
spec connect_timeout 1s
deploy notes:2
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: another site is needed there, and this is not overwritten unasked (lines: 2 added, 1 removed)
  next: look at it: lockstep doctor notes/production; then overwrite it: lockstep deploy production --image notes:2 --overwrite-site

# Asked to, it overwrites them, and says so; taken back, they are there again.
deploy notes:2 overwrite-site
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 start: web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect); it overwrites what was changed by hand there (lines: 2 added, 1 removed)
s6 wave 6 app-1 switch: traffic goes from blue to green, proved through nginx
s7 wave 7 app-1 bake: nothing: green is watched under traffic for 20.0 s
s8 wave 8 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show undo
----
s1 preflight undo: nothing: it only looks
s2 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s3 start undo: stop: green is stopped and removed
s4 health undo: nothing: it only looks
s5 site undo: restore site: nginx has the site that it had
s6 switch undo: switch: traffic goes to blue again
s7 bake undo: nothing: it only looks
s8 drain undo: nothing: the release serves already; this is housekeeping
s9 clean up undo: nothing: the release serves already; this is housekeeping

open

finish
----
succeeded: notes:2 is live in green

# A rollback follows the same rule.
site-changed-by-hand
rollback
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: another site is needed there, and this is not overwritten unasked (lines: 2 added, 1 removed)
  next: look at it: lockstep doctor notes/production; then overwrite it: lockstep rollback production --overwrite-site

rollback overwrite-site
----
s1 wave 1 app-1 health: nothing: asks /health for 2 good answers in a row
s2 wave 2 app-1 site: nginx serves notes.example as it was (one reload: clients with idle connections may have to reconnect); it overwrites what was changed by hand there (lines: 2 added, 1 removed)
s3 wave 3 app-1 switch: traffic goes from green to blue, proved through nginx

# With a certificate nginx listens for TLS, and its files are looked at before anything starts.
spec url https://notes.example
spec tls /etc/ssl/notes.pem /etc/ssl/notes.key
deploy notes:3 overwrite-site
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:3 (03a5970) is on the host
s3 wave 3 app-1 start: web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 443 (one reload: clients with idle connections may have to reconnect); it overwrites what was changed by hand there (lines: 2 added, 1 removed)
s6 wave 6 app-1 switch: traffic goes from green to blue, proved through nginx
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 drain: waits for the requests of green to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

# And a host that comes or goes.
host app-2
add app-2
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: another site is needed there, and this is not overwritten unasked (lines: 2 added, 1 removed)
  next: look at it: lockstep doctor notes/production; then overwrite it: lockstep deploy production --overwrite-site

# What is wrong with it is said at once.
spec url http://notes.example
spec tls notes.pem /etc/ssl/{notes}.key
spec connect_timeout 80s
check
----
traffic.connect_timeout: is 1 min 20 s; more than nothing, and at most 1 min 15 s
traffic.tls: is existing, and url is http://notes.example; write the url with https://, or `tls: off`
traffic.certificate: "notes.pem" is not an absolute path that nginx can be given; begin it with a slash, and use letters, digits and . - _ @ +
traffic.key: "/etc/ssl/{notes}.key" is not an absolute path that nginx can be given; begin it with a slash, and use letters, digits and . - _ @ +
