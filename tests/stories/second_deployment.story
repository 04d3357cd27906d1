# The second deployment goes to the other slot. The site is there already, so that nothing is reloaded.
host app-1
spec worker
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
s9 wave 9 app-1 workers: stops the old workers, then starts those of blue
s10 wave 10 app-1 bake: watches blue under traffic for 20.0 s
s11 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
----
succeeded: notes:1 is live in blue

migration 2 add_author
deploy notes:2
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 migrate: migrates the schema from version 1 to 2: add_author
s5 wave 5 app-1 start: starts web of 4d54a7b in green; the slot is empty
s6 wave 6 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s7 wave 7 app-1 switch: switches traffic from blue to green, verified through nginx
s8 wave 8 app-1 workers: stops the old workers, then starts those of green
s9 wave 9 app-1 bake: watches green under traffic for 20.0 s
s10 wave 10 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s11 wave 11 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no nginx site: the site needs no change; the switch changes a file and needs no reload

show undo
----
s1 preflight undo: nothing: it only checks
s2 image undo: nothing: an unused image does no harm; clean up removes it
s3 snapshot undo: nothing: the snapshot stays
s4 migrate undo: nothing: migrations stay: they only add to the schema, so the previous release runs with them
s5 start undo: stop: stops and removes green
s6 health undo: nothing: it only checks
s7 switch undo: switch: nginx sends requests to blue again
s8 workers undo: workers: starts the workers of blue again
s9 bake undo: nothing: it only checks
s10 drain undo: nothing: the release is already live; this is housekeeping
s11 clean up undo: nothing: the release is already live; this is housekeeping

finish
----
succeeded: notes:2 is live in green

# Without a migration there is no snapshot either.
deploy notes:3
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:3 (03a5970) unless the host has it
s3 wave 3 app-1 start: starts web of 03a5970 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 workers: stops the old workers, then starts those of blue
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no migration: the schema already has version 2
no snapshot: there is no migration to run
no nginx site: the site needs no change; the switch changes a file and needs no reload
