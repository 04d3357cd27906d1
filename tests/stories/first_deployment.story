# The first deployment has no live slot: it starts blue, and its switch is preceded by the site,
# which is installed once the slot is healthy. There is nothing to drain and nothing to go back to.
host app-1
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: schema 0 to 1: create_notes
s5 wave 5 app-1 start: web of 1b0e989 in blue; the slot is empty
s6 wave 6 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s7 wave 7 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s8 wave 8 app-1 switch: traffic goes from no slot to blue, proved through nginx
s9 wave 9 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s10 wave 10 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show undo
----
s1 preflight undo: nothing: it only looks
s2 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s3 snapshot undo: nothing: a snapshot is kept
s4 migrate undo: nothing: migrations stay: they only add, so the release before runs on with them
s5 start undo: stop: blue is stopped and removed
s6 health undo: nothing: it only looks
s7 site undo: remove site: nginx has no site of this environment
s8 switch undo: nothing: no slot had the traffic before
s9 bake undo: nothing: it only looks
s10 clean up undo: nothing: the release serves already; this is housekeeping

show omitted
----
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no workers: no process has the role worker
no drain: no slot had the traffic before

finish
----
succeeded: notes:1 is live in blue
