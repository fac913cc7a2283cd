-- One observation after the other, with a state, as one would write it by hand.
SELECT * FROM alarms() WHERE ended - began >= interval '5 minutes'
