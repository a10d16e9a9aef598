"""How long tests wait for what does not come."""

#: Real seconds after which whatever hangs is ended and its test fails. It ends a run, and does not judge how
#: fast something is: on a machine that is busy with other things a start of two seconds may take a minute.
PATIENCE_S = 300
