# The database is on another host than the application, and lets nobody in: each app host gets its line before
# anything migrates or starts there.
host app-1
host app-2
host app-3
host edge-1
host db-1
migration 1 create_notes
spec hosts app-1,app-2 edge-1
spec database on db-1
pg_hba db-1
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 db-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 3 db-1 pg_hba: PostgreSQL admits app-1, app-2 as writer to notes: adds 2 lines to pg_hba.conf and ends no connection
s8 wave 4 db-1 snapshot: takes and verifies a snapshot of the database in /var/backups/notes
s9 wave 5 db-1 migrate: migrates the schema from version 0 to 1: create_notes
s10 wave 6 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s11 wave 6 app-2 start: starts web of 1b0e989 in blue; the slot is empty
s12 wave 7 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s13 wave 8 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s14 wave 9 edge-1 switch: switches traffic from no slot to blue, verified through nginx
s15 wave 10 edge-1 bake: watches blue under traffic for 20.0 s
s16 wave 11 app-1 workers: notifies blue that it is live (housekeeping)
s17 wave 11 app-2 workers: notifies blue that it is live (housekeeping)
s18 wave 12 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s19 wave 12 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s20 wave 12 db-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

show undo
----
s1 preflight undo: nothing: it only checks
s2 preflight undo: nothing: it only checks
s3 preflight undo: nothing: it only checks
s4 preflight undo: nothing: it only checks
s5 image undo: nothing: an unused image does no harm; clean up removes it
s6 image undo: nothing: an unused image does no harm; clean up removes it
s7 pg_hba undo: pg_hba: PostgreSQL admits the same hosts as before
s8 snapshot undo: nothing: the snapshot stays
s9 migrate undo: nothing: migrations stay: they only add to the schema, so the previous release runs with them
s10 start undo: stop: stops and removes blue
s11 start undo: stop: stops and removes blue
s12 health undo: nothing: it only checks
s13 site undo: remove site: removes the nginx site of this environment
s14 switch undo: nothing: no slot had traffic before
s15 bake undo: nothing: it only checks
s16 workers undo: nothing: the release is already live; this is housekeeping
s17 workers undo: nothing: the release is already live; this is housekeeping
s18 clean up undo: nothing: the release is already live; this is housekeeping
s19 clean up undo: nothing: the release is already live; this is housekeeping
s20 clean up undo: nothing: the release is already live; this is housekeeping

# Nothing is started before it is let in, and the way back leaves what was there.
break swap pg_hba start
----
s11: admits hosts to the database after containers were started on them

break forget-undo pg_hba
----
s7: its undo does not keep the earlier lines of pg_hba.conf

finish
----
succeeded: notes:1 is live in blue

# The lines are there: there is nothing to do, and nothing to say.
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-2 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 db-1 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-2 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 3 app-1 start: starts web of 1b0e989 in green; the slot is empty
s8 wave 3 app-2 start: starts web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 edge-1 switch: switches traffic from blue to green, verified through nginx
s11 wave 6 edge-1 bake: watches green under traffic for 20.0 s
s12 wave 7 app-1 workers: notifies green that it is live (housekeeping)
s13 wave 7 app-2 workers: notifies green that it is live (housekeeping)
s14 wave 7 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s15 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s16 wave 8 app-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
s17 wave 8 db-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again

show omitted
----
no migration: the schema already has version 1
no snapshot: there is no migration to run
no nginx site: the site needs no change; the switch changes a file and needs no reload
no workers: no process has the role worker

# A host that comes gets its line, and no other host's changes.
add app-3
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 db-1 pg_hba: PostgreSQL admits app-3 as writer to notes: adds 1 line to pg_hba.conf and ends no connection
s4 wave 3 app-3 image: gets notes:1 (1b0e989) unless the host has it
s5 wave 4 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s6 wave 5 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s7 wave 6 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s8 wave 7 app-3 workers: starts the workers of blue, stops all others, and notifies blue that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
warning: change deployment.yml as well, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [db-1] }

show undo
----
s1 preflight undo: nothing: it only checks
s2 preflight undo: nothing: it only checks
s3 pg_hba undo: pg_hba: PostgreSQL admits the same hosts as before
s4 image undo: nothing: an unused image does no harm; clean up removes it
s5 start undo: stop: stops and removes blue
s6 health undo: nothing: it only checks
s7 site undo: restore site: restores the previous nginx site
s8 workers undo: workers: stops its workers

break swap pg_hba start
----
s5: admits hosts to the database after containers were started on them

# It does not become healthy: what was begun is taken back, and its line goes last.
open
decide
done s1
done s2
done s3
done s4
done s5
fail s6 10.0.0.3 answers 500
undone s5
undone s3
----
append begun s1
append begun s2
wait 1 min 5 s
append done s1
wait 1 min 5 s
append done s2
append begun s3
wait 35.0 s
append done s3
append begun s4
wait 10 min 5 s
append done s4
append begun s5
wait 2 min 15 s
append done s5
append begun s6
wait 1 min 15 s
append failed s6: 10.0.0.3 answers 500
append turned: StepFailed { step: StepId(6) }
append undo begun s5
wait 2 min 15 s
append undo done s5
append undo begun s3
wait 35.0 s
append undo done s3
append ended: rolled back

add app-3
finish
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 db-1 pg_hba: PostgreSQL admits app-3 as writer to notes: adds 1 line to pg_hba.conf and ends no connection
s4 wave 3 app-3 image: gets notes:1 (1b0e989) unless the host has it
s5 wave 4 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s6 wave 5 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s7 wave 6 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s8 wave 7 app-3 workers: starts the workers of blue, stops all others, and notifies blue that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
warning: change deployment.yml as well, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [db-1] }
succeeded: notes:1 is live in blue

# A drained host keeps its line: nothing runs there that could use it, and it may come back.
drain app-3
finish
----
s1 wave 1 edge-1 site: nginx sends no requests to app-3 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-3 to end (housekeeping)
s3 wave 3 app-3 stop: stops and removes blue (housekeeping)
succeeded: notes:1 is live in blue

add app-3
finish
----
s1 wave 1 app-3 preflight: checks tools, ports and image; changes nothing
s2 wave 1 edge-1 preflight: checks tools, ports and image; changes nothing
s3 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s4 wave 3 app-3 start: starts web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health on app-3, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections to this nginx may have to reconnect)
s7 wave 6 app-3 workers: starts the workers of blue, stops all others, and notifies blue that it is live
warning: only the live release is started on app-3: a rollback starts the earlier release there first, which takes longer than a switch
succeeded: notes:1 is live in blue

# A host that goes loses it, when nothing runs there any more.
remove app-3
----
s1 wave 1 edge-1 site: nginx sends no requests to app-3 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-3 to end (housekeeping)
s3 wave 3 app-3 stop: stops and removes blue (housekeeping)
s4 wave 4 app-3 stop: stops and removes green (housekeeping)
s5 wave 5 db-1 pg_hba: PostgreSQL no longer admits app-3: removes 1 line from pg_hba.conf (housekeeping)
warning: change deployment.yml as well, or the next deployment uses the host again: production: hosts: { app: [app-1, app-2], lb: [edge-1], db: [db-1] }

break drop site
----
the plan has no step whose failure reverts it
s2: drains blue, which has the traffic
s3: starts or stops blue, which is live
s5: removes app-3 from pg_hba.conf while it gets traffic
no step tells nginx whether app-3 gets traffic

# Only a host that goes is kept out.
break touch-operation drain app-3
----
s5: removes a host from pg_hba.conf, although no host is removed

finish
----
succeeded: notes:1 is live in blue

# The database's host does not answer: the host goes all the same, and who reads the plan knows what stays.
silent db-1
remove app-2
----
s1 wave 1 edge-1 site: nginx sends no requests to app-2 (one reload: clients with idle connections to this nginx may have to reconnect)
s2 wave 2 edge-1 drain: waits up to 30.0 s for the requests of app-2 to end (housekeeping)
s3 wave 3 app-2 stop: stops and removes blue (housekeeping)
s4 wave 4 app-2 stop: stops and removes green (housekeeping)
warning: db-1 did not report which hosts its PostgreSQL admits: a line for app-2 in its pg_hba.conf stays
warning: change deployment.yml as well, or the next deployment uses the host again: production: hosts: { app: [app-1], lb: [edge-1], db: [db-1] }

finish
----
succeeded: notes:1 is live in blue

# An administrator's own lines let the hosts in: nothing is added.
host db-2
spec hosts app-1,app-3 edge-1
spec database on db-2
pg_hba db-2 lets-in app-1,app-3
schema 1
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 db-2 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 3 app-1 start: starts web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: starts web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s11 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s12 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s13 wave 8 app-1 workers: notifies green that it is live (housekeeping)
s14 wave 8 app-3 workers: notifies green that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s17 wave 9 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 9 db-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again

# The database is on another machine.
pg_hba db-2 elsewhere
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 db-2 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 3 app-1 start: starts web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: starts web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s11 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s12 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s13 wave 8 app-1 workers: notifies green that it is live (housekeeping)
s14 wave 8 app-3 workers: notifies green that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s17 wave 9 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 9 db-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again

show omitted
----
no pg_hba: the database is not one of its PostgreSQL
no migration: the schema already has version 1
no snapshot: there is no migration to run
no workers: no process has the role worker

# Somebody else keeps that file.
pg_hba db-2
spec pg_hba by_hand
deploy notes:1
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 1 app-3 preflight: checks tools, disk, ports, image and database; changes nothing
s3 wave 1 edge-1 preflight: checks tools, disk, ports, image and database; changes nothing
s4 wave 1 db-2 preflight: checks tools, disk, ports, image and database; changes nothing
s5 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s6 wave 2 app-3 image: gets notes:1 (1b0e989) unless the host has it
s7 wave 3 app-1 start: starts web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: starts web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s11 wave 6 edge-1 switch: switches traffic from blue to green, verified through nginx
s12 wave 7 edge-1 bake: watches green under traffic for 20.0 s
s13 wave 8 app-1 workers: notifies green that it is live (housekeeping)
s14 wave 8 app-3 workers: notifies green that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
s17 wave 9 app-3 clean up: removes images and snapshots that no rollback needs (housekeeping)
s18 wave 9 db-2 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again

show omitted
----
no pg_hba: deployment.yml sets database.postgres.pg_hba: by_hand
no migration: the schema already has version 1
no snapshot: there is no migration to run
no workers: no process has the role worker
