# Rails, Ecto and others keep a table schema_migrations of their own. It is left alone, and the database gets its
# snapshot before each deployment: when that tool migrates is not known here.
host app-1
schema foreign
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s5 wave 5 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 6 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 7 app-1 switch: switches traffic from no slot to blue, verified through nginx
s8 wave 8 app-1 bake: watches blue under traffic for 20.0 s
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and access from the Docker networks of app-1 is configured by hand
no migration: schema_migrations belongs to another tool: public.schema_migrations has the columns version character varying
no workers: no process has the role worker
no drain: no slot had traffic before

finish
deploy notes:2
----
succeeded: notes:1 is live in blue
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:2 (4d54a7b) unless the host has it
s3 wave 3 app-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s4 wave 4 app-1 start: starts web of 4d54a7b in green; the slot is empty
s5 wave 5 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s6 wave 6 app-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 7 app-1 bake: watches green under traffic for 20.0 s
s8 wave 8 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

finish
rollback
----
succeeded: notes:2 is live in green
s1 wave 1 app-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 app-1 switch: switches traffic from green to blue, verified through nginx

# What an image brings for golang-migrate is not applied beside it.
migration 1 create_notes
deploy notes:3
----
refused: the table schema_migrations in the database of notes/production belongs to another tool
  why: public.schema_migrations has the columns version character varying; golang-migrate needs the columns version bigint and dirty boolean, and notes:3 has a migration for it in /migrations
  next: remove database.migrations from deployment.yml, or use another database, or another schema in the URL
