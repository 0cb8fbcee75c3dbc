/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PEERS_ROLES_H
#define PEERS_ROLES_H

/* Both parse the options after the role's name, run, and return the exit status. */
int server_main(int argc, char **argv);
int client_main(int argc, char **argv);

#define DEFAULT_PSK "000102030405060708090a0b0c0d0e0f"
#define PSK_MAX 32

/* The largest application message: a datagram of 16 KiB would not hold its reply's header. */
#define MESSAGE_MAX 15000
#define DATAGRAM_MAX 65536

#endif
