/* SPDX-License-Identifier: Apache-2.0 */
/* A real DTLS 1.2 peer with RFC 9146 connection IDs, for trying a load balancer in front of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "dtls.h"
#include "roles.h"
#include "util.h"

int main(int argc, char **argv) {
    /* A closed stdin, stdout or stderr must not become one of the sockets. */
    while (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0)
        if (open("/dev/null", O_RDWR) < 0)
            return 1;
    static char name[64];
    const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
    const char *role = argc > 1 ? argv[1] : "";
    bool server = !strcmp(role, "server");
    program_name = program;
    if (server || !strcmp(role, "client")) {
        snprintf(name, sizeof name, "%s %s", program, role);
        program_name = name;
        return server ? server_main(argc - 1, argv + 1) : client_main(argc - 1, argv + 1);
    }
    if (!strcmp(role, "--help")) {
        printf("usage: %s server --listen ADDR:PORT [OPTION]...\n"
               "       %s client --connect ADDR:PORT [OPTION]...\n"
               "\n"
               "A DTLS 1.2 peer with connection IDs (RFC 9146), on %s. It prints JSON, one event a line.\n"
               "'server --help' and 'client --help' list the options.\n",
               program, program, dtls_library);
        return 0;
    }
    die_usage("the first argument is 'server', 'client' or '--help'");
}
