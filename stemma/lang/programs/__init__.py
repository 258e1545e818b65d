"""Programs: functions of a state, run once, over many inputs, or dry. May use `states` and what these use."""
