# Where another site answers for the name, a switch would change nothing, and nobody could see it taken back.
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

another-site-answers
deploy notes:2
----
refused: nginx on app-1 does not serve the site of notes/production
  why: notes.example on port 80 is not answered from its site, but with 404
  next: nginx -T    # on app-1: whether another site has that name; and read nginx's error log
