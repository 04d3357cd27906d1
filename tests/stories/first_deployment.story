# The first deployment has no live slot: it starts blue, and its switch is preceded by the site,
# which is installed once the slot is healthy. There is nothing to drain and nothing to go back to.
host app-1
migration 1 create_notes
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: migrates the schema from version 0 to 1: create_notes
s5 wave 5 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s6 wave 6 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s7 wave 7 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s8 wave 8 app-1 switch: switches traffic from no slot to blue, verified through nginx
s9 wave 9 app-1 bake: watches blue under traffic for 20.0 s
s10 wave 10 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show undo
----
s1 preflight undo: nothing: it only checks
s2 image undo: nothing: an unused image does no harm; clean up removes it
s3 snapshot undo: nothing: the snapshot stays
s4 migrate undo: nothing: migrations stay: they only add to the schema, so the previous release runs with them
s5 start undo: stop: stops and removes blue
s6 health undo: nothing: it only checks
s7 site undo: remove site: removes the nginx site of this environment
s8 switch undo: nothing: no slot had traffic before
s9 bake undo: nothing: it only checks
s10 clean up undo: nothing: the release is already live; this is housekeeping

show omitted
----
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no workers: no process has the role worker
no drain: no slot had traffic before

finish
----
succeeded: notes:1 is live in blue
