# nginx's site follows the declaration; what somebody changed in it by hand is not overwritten unasked.
host app-1
spec snapshot none
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

open

finish
----
succeeded: notes:1 is live in blue

# Where no other site is needed, a change by hand is nobody's business but its author's.
site-changed-by-hand
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 bake: watches green under traffic for 20.0 s
s7 wave 7 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no migration: the image has no migrations in /migrations
no snapshot: there is no migration to run
no nginx site: the manual changes on app-1 stay (lines: 2 added, 1 removed): lockstep doctor notes/production
no workers: no process has the role worker

# Where one is, it is refused, and the way on is named.
spec connect_timeout 1s
deploy notes:2
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: this operation needs another site there, and manual changes are overwritten only on request (lines: 2 added, 1 removed)
  next: lockstep doctor notes/production    # shows the changes
    or: lockstep deploy notes/production --image notes:2 --overwrite-site    # overwrites them

# Asked to, it overwrites them, and says so; taken back, they are there again.
deploy notes:2 overwrite-site
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 start: starts web of 4d54a7b in green; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect); overwrites the manual changes there (lines: 2 added, 1 removed)
s6 wave 6 app-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 7 app-1 bake: watches green under traffic for 20.0 s
s8 wave 8 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show undo
----
s1 preflight undo: nothing: it only checks
s2 image undo: nothing: an unused image does no harm; clean up removes it
s3 start undo: stop: stops and removes green
s4 health undo: nothing: it only checks
s5 site undo: restore site: restores the previous nginx site
s6 switch undo: switch: nginx sends requests to blue again
s7 bake undo: nothing: it only checks
s8 drain undo: nothing: the release is already live; this is housekeeping
s9 clean up undo: nothing: the release is already live; this is housekeeping

open

finish
----
succeeded: notes:2 is live in green

# A rollback follows the same rule.
site-changed-by-hand
rollback
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: this operation needs another site there, and manual changes are overwritten only on request (lines: 2 added, 1 removed)
  next: lockstep doctor notes/production    # shows the changes
    or: lockstep rollback notes/production --overwrite-site    # overwrites them

rollback overwrite-site
----
s1 wave 1 app-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 app-1 site: nginx serves notes.example as before (one reload: clients with idle connections to this nginx may have to reconnect); overwrites the manual changes there (lines: 2 added, 1 removed)
s3 wave 3 app-1 switch: switches traffic from green to blue, verified through nginx

# With a certificate nginx listens for TLS, and its files are looked at before anything starts.
spec url https://notes.example
spec tls /etc/ssl/notes.pem /etc/ssl/notes.key
deploy notes:3 overwrite-site
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s3 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 443 (one reload: clients with idle connections to this nginx may have to reconnect); overwrites the manual changes there (lines: 2 added, 1 removed)
s6 wave 6 app-1 switch: switches traffic from green to blue, verified through nginx
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

# And a host that comes or goes.
host app-2
add app-2
----
refused: the nginx site of notes/production on app-1 was changed by hand
  why: this operation needs another site there, and manual changes are overwritten only on request (lines: 2 added, 1 removed)
  next: lockstep doctor notes/production    # shows the changes
    or: lockstep deploy notes/production --image notes:2 --overwrite-site    # overwrites them

# What is wrong with it is said at once.
spec url http://notes.example
spec tls notes.pem /etc/ssl/{notes}.key
spec connect_timeout 80s
check
----
traffic.connect_timeout: is 1 min 20 s; write more than 0, and at most 1 min 15 s
traffic.tls: is existing, but url is http://notes.example; write the url with https://, or `tls: off`
traffic.certificate: "notes.pem" is not an absolute path that nginx accepts; begin it with a slash, and use letters, digits and . - _ @ +
traffic.key: "/etc/ssl/{notes}.key" is not an absolute path that nginx accepts; begin it with a slash, and use letters, digits and . - _ @ +
