# Rails, Ecto and others keep a table schema_migrations of their own. It is left alone, and the database gets its
# snapshot before each deployment: when that tool migrates is not known here.
host app-1
schema foreign
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 start: web of 1b0e989 in blue; the slot is empty
s5 wave 5 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 6 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s7 wave 7 app-1 switch: traffic goes from no slot to blue, proved through nginx
s8 wave 8 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s9 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show omitted
----
no pg_hba: only app-1 runs the application, and whoever comes from its own Docker's networks is yours to let in
no migration: schema_migrations is another tool's: public.schema_migrations has the columns version character varying
no workers: no process has the role worker
no drain: no slot had the traffic before

finish
deploy notes:2
----
succeeded: notes:1 is live in blue
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:2 (4d54a7b) is on the host
s3 wave 3 app-1 snapshot: a verified snapshot of the database in /var/backups/notes
s4 wave 4 app-1 start: web of 4d54a7b in green; the slot is empty
s5 wave 5 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s6 wave 6 app-1 switch: traffic goes from blue to green, proved through nginx
s7 wave 7 app-1 bake: nothing: green is watched under traffic for 20.0 s
s8 wave 8 app-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s9 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

finish
rollback
----
succeeded: notes:2 is live in green
s1 wave 1 app-1 health: nothing: asks /health for 2 good answers in a row
s2 wave 2 app-1 switch: traffic goes from green to blue, proved through nginx

# What an image brings for golang-migrate is not applied beside it.
migration 1 create_notes
deploy notes:3
----
refused: schema_migrations in the database of notes/production is another tool's
  why: public.schema_migrations has the columns version character varying; golang-migrate's has version bigint, dirty boolean, and notes:3 brings a migration for it in /migrations
  next: take database.migrations out of deployment.yml, or use another database, or another schema in the URL
