/** Opens a path without opening the file, see open(2). Node has no constant for it. */
export const O_PATH = 0o10000000;
