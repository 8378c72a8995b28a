/* SPDX-License-Identifier: mpich2 */
/*
 * The command `ivshmem`: creates, describes, checks and cleans regions. This file reads the command
 * line; each command is a function of ivshmem_*.c over core.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unreleased"
#endif

static const char help_text[] =
    "usage: ivshmem COMMAND [OPTION]... [REGION]\n"
    "\n"
    "Commands and their options:\n"
    "  format  make REGION a region; an existing region is kept, other contents are refused\n"
    "            --size SIZE     create the file REGION with this size: 64M, 1G, ...\n"
    "            --force         format REGION whatever it holds and whoever uses it\n"
    "  info    show what the region is and how full it is\n"
    "            --all           list all devices whose memory can be a region\n"
    "            --json          print JSON\n"
    "  ps      list the jobs and processes on the region\n"
    "            --json          print JSON\n"
    "  top     show what goes on on the region, again and again\n"
    "            --once          once, and end\n"
    "            --interval SECS from one look to the next (default 2)\n"
    "            --json          print JSON, an object for each look\n"
    "  check   check that the region is sound\n"
    "            --deep          also check the messages in flight between live processes\n"
    "            --between 0|1   check that two sides share the region correctly: run `--between "
    "0`\n"
    "                            on one side and `--between 1` on the other, at the same time\n"
    "            --timeout SECS  with --between: seconds to wait for the other side (default 60)\n"
    "  reap    free what dead processes held\n"
    "            --all           on all devices that hold a region\n"
    "            --vm-gone VM    also free what ran in VM, which will never run again; VM is a "
    "host\n"
    "                            name, a uuid, or one of the VM's endpoints as ps shows them\n"
    "            --container-gone CONTAINER\n"
    "                            also free what ran in a container of this machine, which has "
    "ended\n"
    "            --endpoint N.G  also free what one process held, which has ended\n"
    "  perf    measure what the region does between two sides: run `perf --serve` on one side and\n"
    "          `perf` on the other\n"
    "            --serve         wait for the other side, which measures\n"
    "            --both          run both sides here\n"
    "            --name NAME     only with a side that has the same name\n"
    "            --tests LIST    of latency, bandwidth, rate, copy (default: all)\n"
    "            --sizes LIST    of messages: 0,8,1K-64K (which doubles), ...\n"
    "            --time SECS     to measure each size (default 0.2)\n"
    "            --iterations N  measure each size N times instead\n"
    "            --cpu N         run on this CPU; with --both, N,M for the two sides\n"
    "            --timeout SECS  seconds to wait for the other side (default 60)\n"
    "            --json          print JSON\n"
    "  send    copy standard input to `recv` with the same NAME: ivshmem send NAME [REGION]\n"
    "            --tee N         copy it to N of them\n"
    "            --timeout SECS  seconds to wait for the other side (default 60)\n"
    "  recv    copy to standard output what `send` reads: ivshmem recv NAME [REGION]\n"
    "            --timeout SECS  seconds to wait for the other side (default 60)\n"
    "            --checksum      of either: compare checksums in the end\n"
    "  put     copy files and folders to `get`: ivshmem put NAME FILE...\n"
    "  get     make FOLDER of what `put` with the same NAME copies: ivshmem get NAME FOLDER\n"
    "          or to and from `serve`: ivshmem put SERVER:PATH FILE...,\n"
    "          ivshmem get SERVER:PATH FOLDER\n"
    "            --region REGION as these take no region behind the other arguments\n"
    "            --tee, --checksum, --timeout as for send and recv\n"
    "  serve   let others get files of FOLDER: ivshmem serve FOLDER\n"
    "            --write         and put files there\n"
    "            --name SERVER   the name for others (default: that of this machine)\n"
    "            --clients N     so many at the same time (default 8)\n"
    "            --max-size SIZE of what is put at once\n"
    "            --region REGION, --timeout as for put and get\n"
    "  net up ADDRESS/PREFIX\n"
    "          be a machine on an Ethernet with all others that do so on the region\n"
    "            --name NAME     of the network interface (default mpi0)\n"
    "            --network NAME  one of several networks on the region (default: default)\n"
    "            --mtu BYTES     of the interface (default 65000)\n"
    "            --background    return when the interface is ready\n"
    "  net down  end the interface\n"
    "            --name NAME     another one than mpi0\n"
    "  net status  list the networks and interfaces on the region\n"
    "            --json          print JSON\n"
    "\n"
    "REGION is the PCI address of an ivshmem device, or the path of a file or device. The default\n"
    "is the value of MPIR_CVAR_NEMESIS_IVSHMEM_REGION, else the first device that can be used.\n"
    "Exit status: 0 success, 1 failure or a finding of check, 2 wrong usage. See ivshmem(1).\n";

static const struct command {
    const char *name;
    const char *options; /* those that it takes, by their letter below */
    int (*run)(const struct tool_options *opt);
    bool is_named; /* its first argument is a name */
    int files;     /* so many come next, at most; instead of the region */
} command_table[] = {
    {"format", "sf", tool_format, false, 0},
    {"info", "aj", tool_info, false, 0},
    {"ps", "j", tool_ps, false, 0},
    {"top", "joI", tool_top, false, 0},
    {"check", "dbt", tool_check, false, 0},
    {"reap", "agce", tool_reap, false, 0},
    {"perf", "jtSBnTzmiu", tool_perf, false, 0},
    {"send", "tNk", tool_send, true, 0},
    {"recv", "tk", tool_recv, true, 0},
    {"put", "tNrk", tool_put, true, INT_MAX},
    {"get", "trk", tool_get, true, 1},
    {"serve", "trnwlx", tool_serve, false, 1},
    {"net", "jnWMD", tool_net, false, 0},
};

#define COMMANDS "format, info, ps, top, check, reap, perf, send, recv, put, get, serve or net"

enum { LONG = 0x100 }; /* what tells an option from a letter, of which there is -h alone */

static const struct option long_options[] = {
    {"size", required_argument, NULL, LONG | 's'},
    {"force", no_argument, NULL, LONG | 'f'},
    {"all", no_argument, NULL, LONG | 'a'},
    {"json", no_argument, NULL, LONG | 'j'},
    {"deep", no_argument, NULL, LONG | 'd'},
    {"between", required_argument, NULL, LONG | 'b'},
    {"timeout", required_argument, NULL, LONG | 't'},
    {"vm-gone", required_argument, NULL, LONG | 'g'},
    {"container-gone", required_argument, NULL, LONG | 'c'},
    {"endpoint", required_argument, NULL, LONG | 'e'},
    {"serve", no_argument, NULL, LONG | 'S'},
    {"both", no_argument, NULL, LONG | 'B'},
    {"name", required_argument, NULL, LONG | 'n'},
    {"tests", required_argument, NULL, LONG | 'T'},
    {"sizes", required_argument, NULL, LONG | 'z'},
    {"time", required_argument, NULL, LONG | 'm'},
    {"iterations", required_argument, NULL, LONG | 'i'},
    {"cpu", required_argument, NULL, LONG | 'u'},
    {"tee", required_argument, NULL, LONG | 'N'},
    {"region", required_argument, NULL, LONG | 'r'},
    {"network", required_argument, NULL, LONG | 'W'},
    {"mtu", required_argument, NULL, LONG | 'M'},
    {"background", no_argument, NULL, LONG | 'D'},
    {"checksum", no_argument, NULL, LONG | 'k'},
    {"write", no_argument, NULL, LONG | 'w'},
    {"clients", required_argument, NULL, LONG | 'l'},
    {"max-size", required_argument, NULL, LONG | 'x'},
    {"once", no_argument, NULL, LONG | 'o'},
    {"interval", required_argument, NULL, LONG | 'I'},
    {"help", no_argument, NULL, LONG | 'h'},
    {"version", no_argument, NULL, LONG | 'v'},
    {0},
};

int tool_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("ivshmem: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("; see ivshmem --help\n", stderr);
    va_end(ap);
    return TOOL_USAGE;
}

static int show_help(void)
{
    fputs(help_text, stdout);
    return TOOL_OK;
}

static int show_version(void)
{
    printf("ivshmem (mpich-ivshmem) %s, region layout version %d\n", PACKAGE_VERSION,
           IVSHM_VERSION);
    return TOOL_OK;
}

#define NAME_MAX_BYTES 64
#define PATH_BYTES_MAX 1024 /* LINK_TEXT_MAX */

/* Of a pipe. A slash would be that of a region. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char) name[i] < ' ' || name[i] == 127 || name[i] == '/')
            return false;
    return len > 0 && len <= NAME_MAX_BYTES;
}

static int run_command(int argc, char **argv)
{
    if (argc < 2)
        return tool_usage_error("no command given: expected " COMMANDS);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return show_help();
    if (strcmp(argv[1], "--version") == 0)
        return show_version();
    const struct command *cmd = NULL;
    for (size_t i = 0; i < sizeof(command_table) / sizeof(command_table[0]); i++)
        if (strcmp(argv[1], command_table[i].name) == 0)
            cmd = &command_table[i];
    if (!cmd)
        return tool_usage_error("'%s' is not a command: expected " COMMANDS, argv[1]);

    struct tool_options opt = {.side = -1, .timeout = 60};
    bool timeout_given = false;
    char *end;
    unsigned long seconds;
    int c, which;
    opterr = 0;
    optind = 2;
    while ((c = getopt_long(argc, argv, ":h", long_options, &which)) != -1) {
        if (c == ':')
            return tool_usage_error("%s needs a value", argv[optind - 1]);
        if (c == '?' && optopt & LONG)
            return tool_usage_error("%s takes no value", argv[optind - 1]);
        if (c == '?' && optopt)
            return tool_usage_error("%s: unknown option -%c", cmd->name, optopt);
        if (c == '?')
            return tool_usage_error("%s: unknown option %s", cmd->name, argv[optind - 1]);
        c &= ~LONG;
        if (c == 'h')
            return show_help();
        if (c == 'v')
            return show_version();
        if (!strchr(cmd->options, c))
            return tool_usage_error("%s: unknown option --%s", cmd->name, long_options[which].name);
        switch (c) {
        case 's':
            if (!tool_parse_size(optarg, &opt.size))
                return tool_usage_error("--size %s is not a size such as 64M or 1G", optarg);
            break;
        case 'f':
            opt.force = true;
            break;
        case 'a':
            opt.all = true;
            break;
        case 'j':
            opt.json = true;
            break;
        case 'd':
            opt.deep = true;
            break;
        case 'b':
            if (strcmp(optarg, "0") != 0 && strcmp(optarg, "1") != 0)
                return tool_usage_error("--between %s: must be 0 on one side and 1 on the other",
                                        optarg);
            opt.side = optarg[0] - '0';
            break;
        case 'g':
            opt.vm_gone = optarg;
            break;
        case 'c':
            opt.container_gone = optarg;
            break;
        case 'e':
            opt.endpoint = optarg;
            break;
        case 't':
            errno = 0;
            seconds = strtoul(optarg, &end, 10);
            if (errno || *end || seconds < 1 || seconds > 86400 || optarg[0] == '-')
                return tool_usage_error("--timeout %s is not a number of seconds from 1 to 86400",
                                        optarg);
            opt.timeout = (unsigned) seconds;
            timeout_given = true;
            break;
        case 'S':
            opt.serve = true;
            break;
        case 'B':
            opt.both = true;
            break;
        case 'n':
            opt.name = optarg;
            break;
        case 'T':
            opt.tests = optarg;
            break;
        case 'z':
            opt.sizes = optarg;
            break;
        case 'm':
            opt.time = optarg;
            break;
        case 'i':
            opt.iterations = optarg;
            break;
        case 'u':
            opt.cpus = optarg;
            break;
        case 'N':
            opt.tee = optarg;
            break;
        case 'r':
            opt.region = optarg;
            break;
        case 'W':
            opt.network = optarg;
            break;
        case 'M':
            opt.mtu = optarg;
            break;
        case 'D':
            opt.background = true;
            break;
        case 'k':
            opt.checksum = true;
            break;
        case 'w':
            opt.write = true;
            break;
        case 'l':
            opt.clients = optarg;
            break;
        case 'o':
            opt.once = true;
            break;
        case 'I':
            opt.interval = optarg;
            break;
        case 'x':
            if (!tool_parse_size(optarg, &opt.max_size))
                return tool_usage_error("--max-size %s is not a size such as 64M or 1G", optarg);
            break;
        }
    }
    if (cmd->is_named) {
        if (optind == argc)
            return tool_usage_error("%s needs a name, which the other side gives as well",
                                    cmd->name);
        opt.name = argv[optind];
        char *colon = cmd->files ? strchr(argv[optind], ':') : NULL;
        if (colon) {
            *colon = 0;
            opt.path = colon + 1;
            if (strlen(opt.path) >= PATH_BYTES_MAX)
                return tool_usage_error("%.64s... is too long: expected a path of less than %d "
                                        "bytes at a server",
                                        tool_printable(opt.path), PATH_BYTES_MAX);
            if (opt.tee)
                return tool_usage_error("--tee is for a pipe, not for a server");
        }
        optind++;
        if (!is_name(opt.name))
            return tool_usage_error("'%s' is no name for a pipe: expected 1 to %d bytes without "
                                    "slashes and control characters, before the other arguments",
                                    tool_printable(opt.name), NAME_MAX_BYTES);
    }
    if (cmd->files) {
        if (optind == argc)
            return tool_usage_error("%s needs the name of a %s", cmd->name,
                                    cmd->run == tool_serve ? "folder to serve"
                                    : cmd->files == 1      ? "folder to make"
                                                           : "file or folder");
        if (argc - optind > cmd->files)
            return tool_usage_error("%s takes one folder, but %s was given as well", cmd->name,
                                    argv[optind + 1]);
        opt.files = argv + optind;
        optind = argc;
    }
    if (cmd->run == tool_serve && opt.name && (!is_name(opt.name) || strchr(opt.name, ':')))
        return tool_usage_error("'%s' is no name for a server: expected 1 to %d bytes without "
                                "slashes, colons and control characters",
                                tool_printable(opt.name), NAME_MAX_BYTES);
    if (cmd->run == tool_net && optind < argc)
        opt.verb = argv[optind++];
    if (opt.verb && strcmp(opt.verb, "up") == 0 && optind < argc)
        opt.address = argv[optind++];
    if (opt.verb && strcmp(opt.verb, "down") == 0 && optind < argc)
        return tool_usage_error("net down takes no region, but %s was given: --name says which "
                                "interface is meant",
                                argv[optind]);
    if (argc - optind > 1)
        return tool_usage_error("%s takes one region, but %s was given as well", cmd->name,
                                argv[optind + 1]);
    if (opt.deep && opt.side >= 0)
        return tool_usage_error("--deep and --between cannot be combined");
    bool is_reap = cmd->run == tool_reap;
    if (!!opt.vm_gone + !!opt.container_gone + !!opt.endpoint + (is_reap && opt.all) > 1)
        return tool_usage_error(
            "--all, --vm-gone, --container-gone and --endpoint cannot be combined");
    if (timeout_given && opt.side < 0 && cmd->run == tool_check)
        return tool_usage_error("--timeout can be used only with --between");
    if (optind < argc)
        opt.region = argv[optind];
    else if (!opt.region)
        opt.region = getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION");
    if (opt.region && !*opt.region) {
        if (opt.region != getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"))
            return tool_usage_error("%s: the region's name is empty", cmd->name);
        opt.region = NULL;
    }
    if (opt.size && !opt.region)
        return tool_usage_error("--size needs the name of the file to create");
    if (opt.all && optind < argc)
        return tool_usage_error("%s --all is for all devices and takes no region, but %s was given",
                                cmd->name, opt.region);
    return cmd->run(&opt);
}

static volatile sig_atomic_t was_interrupted;

static void on_signal(int signal)
{
    (void) signal;
    was_interrupted = 1;
}

void tool_catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    signal(SIGPIPE, SIG_IGN); /* main reports that nothing can be written */
}

bool tool_was_interrupted(void)
{
    return was_interrupted;
}

static int print_error(const char *prefix, const char *fmt, va_list ap)
{
    fprintf(stderr, "ivshmem: %s", prefix);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    return TOOL_FAILED;
}

int tool_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int status = print_error("", fmt, ap);
    va_end(ap);
    return status;
}

void tool_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_error("warning: ", fmt, ap);
    va_end(ap);
}

/* A file that is cut, or finds no memory, or a device that goes, while a command looks at it. */
static void on_bus_error(int sig)
{
    static const char text[] = "ivshmem: " TOOL_MEMORY_IS_GONE "\n";
    (void) sig;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(TOOL_FAILED); /* and nobody is told */
    _exit(TOOL_FAILED);
}

int main(int argc, char **argv)
{
    if (!tool_fill_standard_descriptors())
        return TOOL_FAILED; /* and nobody can be told */
    signal(SIGBUS, on_bus_error);
    signal(SIGXFSZ, SIG_IGN); /* a file beyond `ulimit -f` is an error like any other */
    int status = run_command(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout))
        return tool_error("cannot write the output: %s", strerror(errno));
    return status;
}
