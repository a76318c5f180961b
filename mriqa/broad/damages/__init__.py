"""Ways to spoil a photograph, a file for each subject; `mriqa.broad.damage_table` lists them all."""
