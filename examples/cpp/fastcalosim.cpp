// One shower of a model of `hepgan export --for fastcalosim`, called as FastCaloSim calls it: inputs by name, from maps of numbers.
//
//   fastcalosim MODEL.onnx ENERGY_MEV MASS_MEV LOWEST HIGHEST < noise, normal(0.5, 0.5)    prints the energy of each voxel [MeV]
//
// The network covers momenta of 2^LOWEST to 2^HIGHEST MeV; ENERGY is the kinetic energy.
#include "session.hpp"

#include <cmath>
#include <cstdio>
#include <map>

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const Session session(argv[1]);
  const double energy = std::atof(argv[2]), mass = std::atof(argv[3]);
  const auto kinetic = [mass](double power) {
    return std::hypot(std::exp2(power), mass) - mass;
  };
  const double low = kinetic(std::atof(argv[4])), high = kinetic(std::atof(argv[5]));

  std::map<std::string, std::vector<double>> numbers;
  for (float number : read_noise()) numbers["Noise"].push_back(number);
  numbers["mycond"] = {std::log(energy / low) / std::log(high / low), 0};

  std::vector<Tensor> inputs;
  for (const std::string& name : session.names()) {
    const std::vector<double>& values = numbers.at(name);
    inputs.push_back({{1, static_cast<int64_t>(values.size())}, {values.begin(), values.end()}});
  }
  for (float fraction : session.run(inputs)) std::printf("%.9g\n", fraction * energy);
}
