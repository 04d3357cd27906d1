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
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 db-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s7 wave 3 db-1 pg_hba: PostgreSQL lets app-1, app-2 in, as writer to notes: 2 lines in pg_hba.conf, no connection ends
s8 wave 4 db-1 snapshot: a verified snapshot of the database in /var/backups/notes
s9 wave 5 db-1 migrate: schema 0 to 1: create_notes
s10 wave 6 app-1 start: web of 1b0e989 in blue; the slot is empty
s11 wave 6 app-2 start: web of 1b0e989 in blue; the slot is empty
s12 wave 7 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s13 wave 8 edge-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s14 wave 9 edge-1 switch: traffic goes from no slot to blue, proved through nginx
s15 wave 10 edge-1 bake: nothing: blue is watched under traffic for 20.0 s
s16 wave 11 app-1 workers: blue is told that it is live (housekeeping)
s17 wave 11 app-2 workers: blue is told that it is live (housekeeping)
s18 wave 12 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s19 wave 12 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s20 wave 12 db-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

show undo
----
s1 preflight undo: nothing: it only looks
s2 preflight undo: nothing: it only looks
s3 preflight undo: nothing: it only looks
s4 preflight undo: nothing: it only looks
s5 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s6 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s7 pg_hba undo: pg_hba: PostgreSQL lets in whom it let in before
s8 snapshot undo: nothing: a snapshot is kept
s9 migrate undo: nothing: migrations stay: they only add, so the release before runs on with them
s10 start undo: stop: blue is stopped and removed
s11 start undo: stop: blue is stopped and removed
s12 health undo: nothing: it only looks
s13 site undo: remove site: nginx has no site of this environment
s14 switch undo: nothing: no slot had the traffic before
s15 bake undo: nothing: it only looks
s16 workers undo: nothing: the release serves already; this is housekeeping
s17 workers undo: nothing: the release serves already; this is housekeeping
s18 clean up undo: nothing: the release serves already; this is housekeeping
s19 clean up undo: nothing: the release serves already; this is housekeeping
s20 clean up undo: nothing: the release serves already; this is housekeeping

# Nothing is started before it is let in, and the way back leaves what was there.
break swap pg_hba start
----
s11: it lets hosts into the database after something was started there

break forget-undo pg_hba
----
s7: its undo does not leave in the database's rules what was there

finish
----
succeeded: notes:1 is live in blue

# The lines are there: there is nothing to do, and nothing to say.
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-2 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 db-1 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-2 image: notes:1 (1b0e989) is on the host
s7 wave 3 app-1 start: web of 1b0e989 in green; the slot is empty
s8 wave 3 app-2 start: web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s10 wave 5 edge-1 switch: traffic goes from blue to green, proved through nginx
s11 wave 6 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s12 wave 7 app-1 workers: green is told that it is live (housekeeping)
s13 wave 7 app-2 workers: green is told that it is live (housekeeping)
s14 wave 7 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s15 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s16 wave 8 app-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s17 wave 8 db-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: notes:1 is live already, in blue: this deploys it again

show omitted
----
no migration: schema 1 is already there
no snapshot: nothing migrates
no nginx site: it is as it should be; the switch is a file, nothing is reloaded
no workers: no process has the role worker

# A host that comes gets its line, and no other host's changes.
add app-3
----
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 db-1 pg_hba: PostgreSQL lets app-3 in, as writer to notes: a line in pg_hba.conf, no connection ends
s4 wave 3 app-3 image: notes:1 (1b0e989) is on the host
s5 wave 4 app-3 start: web of 1b0e989 in blue; the slot is empty
s6 wave 5 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s7 wave 6 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s8 wave 7 app-3 workers: the workers of blue run, and no others; blue is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
warning: deployment.yml is to say so too, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [db-1] }

show undo
----
s1 preflight undo: nothing: it only looks
s2 preflight undo: nothing: it only looks
s3 pg_hba undo: pg_hba: PostgreSQL lets in whom it let in before
s4 image undo: nothing: an image that nobody runs does no harm; clean up removes it
s5 start undo: stop: blue is stopped and removed
s6 health undo: nothing: it only looks
s7 site undo: restore site: nginx has the site that it had
s8 workers undo: workers: its workers end

break swap pg_hba start
----
s5: it lets hosts into the database after something was started there

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
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 db-1 pg_hba: PostgreSQL lets app-3 in, as writer to notes: a line in pg_hba.conf, no connection ends
s4 wave 3 app-3 image: notes:1 (1b0e989) is on the host
s5 wave 4 app-3 start: web of 1b0e989 in blue; the slot is empty
s6 wave 5 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s7 wave 6 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s8 wave 7 app-3 workers: the workers of blue run, and no others; blue is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
warning: deployment.yml is to say so too, or the next deployment is refused: production: hosts: { app: [app-1, app-2, app-3], lb: [edge-1], db: [db-1] }
succeeded: notes:1 is live in blue

# A drained host keeps its line: nothing runs there that could use it, and it may come back.
drain app-3
finish
----
s1 wave 1 edge-1 site: nginx sends no request to app-3 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-3 to end, for at most 30.0 s (housekeeping)
s3 wave 3 app-3 stop: blue is stopped and removed (housekeeping)
succeeded: notes:1 is live in blue

add app-3
finish
----
s1 wave 1 app-3 preflight: nothing: looks at tools, ports and image
s2 wave 1 edge-1 preflight: nothing: looks at tools, ports and image
s3 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s4 wave 3 app-3 start: web of 1b0e989 in blue; the slot is empty
s5 wave 4 edge-1 health: nothing: asks /health on app-3 until 3 good answers in a row, for at most 1 min
s6 wave 5 edge-1 site: nginx sends requests to app-3 too (one reload: clients with idle connections may have to reconnect)
s7 wave 6 app-3 workers: the workers of blue run, and no others; blue is told that it is live
warning: a rollback starts its release on app-3 first: only what is live is brought there
succeeded: notes:1 is live in blue

# A host that goes loses it, when nothing runs there any more.
remove app-3
----
s1 wave 1 edge-1 site: nginx sends no request to app-3 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-3 to end, for at most 30.0 s (housekeeping)
s3 wave 3 app-3 stop: blue is stopped and removed (housekeeping)
s4 wave 4 app-3 stop: green is stopped and removed (housekeeping)
s5 wave 5 db-1 pg_hba: PostgreSQL does not let app-3 in any more: a line less in pg_hba.conf (housekeeping)
warning: deployment.yml is to say so too, or the next deployment brings it back: production: hosts: { app: [app-1, app-2], lb: [edge-1], db: [db-1] }

break drop site
----
it has no step that decides
s2: it drains blue, which has the traffic
s3: it touches blue, which is live
s5: it keeps app-3 out of the database while that has traffic
nginx is not told whether app-3 has traffic

# Only a host that goes is kept out.
break touch-operation drain app-3
----
s5: it keeps a host out of the database that stays

finish
----
succeeded: notes:1 is live in blue

# The database's host does not answer: the host goes all the same, and who reads the plan knows what stays.
silent db-1
remove app-2
----
s1 wave 1 edge-1 site: nginx sends no request to app-2 (one reload: clients with idle connections may have to reconnect)
s2 wave 2 edge-1 drain: waits for the requests of app-2 to end, for at most 30.0 s (housekeeping)
s3 wave 3 app-2 stop: blue is stopped and removed (housekeeping)
s4 wave 4 app-2 stop: green is stopped and removed (housekeeping)
warning: db-1 does not say whom its PostgreSQL lets in: where app-2 has a line in pg_hba.conf there, it stays
warning: deployment.yml is to say so too, or the next deployment brings it back: production: hosts: { app: [app-1], lb: [edge-1], db: [db-1] }

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
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 db-2 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s7 wave 3 app-1 start: web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s11 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s12 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s13 wave 8 app-1 workers: green is told that it is live (housekeeping)
s14 wave 8 app-3 workers: green is told that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s17 wave 9 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 9 db-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: notes:1 is live already, in blue: this deploys it again

# The database is on another machine.
pg_hba db-2 elsewhere
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 db-2 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s7 wave 3 app-1 start: web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s11 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s12 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s13 wave 8 app-1 workers: green is told that it is live (housekeeping)
s14 wave 8 app-3 workers: green is told that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s17 wave 9 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 9 db-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: notes:1 is live already, in blue: this deploys it again

show omitted
----
no pg_hba: the database is not one of its PostgreSQL
no migration: schema 1 is already there
no snapshot: nothing migrates
no workers: no process has the role worker

# Somebody else keeps that file.
pg_hba db-2
spec pg_hba by_hand
deploy notes:1
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 1 app-3 preflight: nothing: looks at tools, disk, ports, image and database
s3 wave 1 edge-1 preflight: nothing: looks at tools, disk, ports, image and database
s4 wave 1 db-2 preflight: nothing: looks at tools, disk, ports, image and database
s5 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s6 wave 2 app-3 image: notes:1 (1b0e989) is on the host
s7 wave 3 app-1 start: web of 1b0e989 in green; the slot is empty
s8 wave 3 app-3 start: web of 1b0e989 in green; the slot is empty
s9 wave 4 edge-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s10 wave 5 edge-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections may have to reconnect)
s11 wave 6 edge-1 switch: traffic goes from blue to green, proved through nginx
s12 wave 7 edge-1 bake: nothing: green is watched under traffic for 20.0 s
s13 wave 8 app-1 workers: green is told that it is live (housekeeping)
s14 wave 8 app-3 workers: green is told that it is live (housekeeping)
s15 wave 8 edge-1 drain: waits for the requests of blue to end, for at most 30.0 s; it stays warm for a rollback (housekeeping)
s16 wave 9 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s17 wave 9 app-3 clean up: images and snapshots that no rollback needs are removed (housekeeping)
s18 wave 9 db-2 clean up: images and snapshots that no rollback needs are removed (housekeeping)
warning: notes:1 is live already, in blue: this deploys it again

show omitted
----
no pg_hba: deployment.yml says database.postgres.pg_hba: by_hand
no migration: schema 1 is already there
no snapshot: nothing migrates
no workers: no process has the role worker
