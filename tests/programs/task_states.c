/* task_states: the states of a pool's task, as csrc/job/pool_states.h has them.
 *
 *     task_states               one line for each pair: STATE event STATE, or STATE event refused
 *     task_states STATE EVENT   makes that move, by their numbers, and writes the new state */
#include "job/pool_states.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc == 3) {
        const struct rlimit none = {0, 0}; /* a refused move aborts: no core file */
        setrlimit(RLIMIT_CORE, &none);
        uint8_t state = (uint8_t)atoi(argv[1]);
        task_move(&state, (enum task_event)atoi(argv[2]));
        puts(task_state_names[state]);
        return 0;
    }
    for (int state = 0; state < TASK_STATES; state++) {
        for (int event = 0; event < TASK_EVENTS; event++) {
            const struct task_move *move = &task_moves[event];
            printf("%s %s %s\n", task_state_names[state], move->name,
                   move->from >> state & 1 ? task_state_names[move->to] : "refused");
        }
    }
    return 0;
}
