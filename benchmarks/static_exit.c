/* static_exit.c: a program that only exits, so that what is measured is the spawn and not the dynamic linker.
 * Linux: cc -static -nostdlib -DFREESTANDING; elsewhere without these. */
#ifdef FREESTANDING
#include <sys/syscall.h>

void _start(void) __attribute__((noreturn));
void _start(void)
{
#if defined(__x86_64__)
    __asm__ volatile("syscall" : : "a"(SYS_exit_group), "D"(0) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_exit_group;
    register long code __asm__("x0") = 0;
    __asm__ volatile("svc #0" : : "r"(number), "r"(code) : "memory");
#else
#error "no system call for this machine: compile without -DFREESTANDING"
#endif
    __builtin_unreachable();
}
#else
int main(void)
{
    return 0;
}
#endif
