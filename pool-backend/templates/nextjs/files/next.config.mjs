/** @type {import("next").NextConfig} */
export default {
  // The page comes from the workspace's own address.
  allowedDevOrigins: [`*${process.env.__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS ?? ".localhost"}`],
};
