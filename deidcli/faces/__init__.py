"""What is known about faces: find, place, cut out, put back, describe. One public verb each."""
