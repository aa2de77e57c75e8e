/** Names a file without opening it, see open(2). Node has no constant for it. */
export const O_PATH = 0o10000000;
