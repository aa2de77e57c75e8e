declare const brand: unique symbol;

/** A value that only its own parser makes, so that it may be trusted from there on. */
export type Brand<Value, Name extends string> = Value & { readonly [brand]: Name };
