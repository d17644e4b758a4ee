/* The part of the harness that is about pools; ends the program at the first thing that is not as it must be. */
void check_pool(int rounds);
