"""The demonstration: three hospitals found a federation and train on real patient rows, through the public doors."""
