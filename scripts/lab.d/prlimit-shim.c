/*
 * Preloaded into the lab's criu where root lacks CAP_SYS_RESOURCE: a read of another process's limits that the kernel
 * refuses is answered from /proc/PID/limits, which root may read. Setting limits stays refused.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static long (*next_syscall)(long, ...);

/* As the lines of /proc/PID/limits begin, by number of the limit. */
static const char *const names[] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};

__attribute__((constructor)) static void start(void)
{
	next_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	/* What criu starts must not inherit this. */
	unsetenv("LD_PRELOAD");
}

static rlim_t parse(const char *word)
{
	return strcmp(word, "unlimited") == 0 ? RLIM_INFINITY : strtoull(word, NULL, 10);
}

static int read_limit(pid_t pid, unsigned int resource, struct rlimit64 *limit)
{
	char path[64], line[256], soft[32], hard[32];
	int found = -1;
	FILE *file;

	if (resource >= sizeof(names) / sizeof(*names) || !names[resource])
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (found && fgets(line, sizeof(line), file)) {
		size_t length = strlen(names[resource]);

		if (strncmp(line, names[resource], length) || line[length] != ' ')
			continue;
		if (sscanf(line + length, "%31s %31s", soft, hard) == 2) {
			limit->rlim_cur = parse(soft);
			limit->rlim_max = parse(hard);
			found = 0;
		}
	}
	fclose(file);
	return found;
}

static int get_or_set(pid_t pid, unsigned int resource, const void *new_limit, void *old_limit)
{
	int result = next_syscall(SYS_prlimit64, (long)pid, (long)resource, new_limit, old_limit);

	if (result == 0 || errno != EPERM || new_limit || !old_limit || pid == 0)
		return result;
	if (read_limit(pid, resource, old_limit) == 0)
		return 0;
	errno = EPERM;
	return -1;
}

long syscall(long number, ...)
{
	long a, b, c, d, e, f;
	va_list list;

	va_start(list, number);
	a = va_arg(list, long);
	b = va_arg(list, long);
	c = va_arg(list, long);
	d = va_arg(list, long);
	e = va_arg(list, long);
	f = va_arg(list, long);
	va_end(list);
	if (number == SYS_prlimit64)
		return get_or_set(a, b, (const void *)c, (void *)d);
	return next_syscall(number, a, b, c, d, e, f);
}

/* On 64-bit systems both structures are the same. */
int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new_limit, struct rlimit64 *old_limit)
{
	return get_or_set(pid, resource, new_limit, old_limit);
}

int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *new_limit, struct rlimit *old_limit)
{
	return get_or_set(pid, resource, new_limit, old_limit);
}
