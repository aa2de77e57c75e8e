declare const brand: unique symbol;

/** A value that only its parser makes. Code that gets one may trust it. */
export type Brand<Value, Name extends string> = Value & { readonly [brand]: Name };
